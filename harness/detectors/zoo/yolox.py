"""The YOLOX detectors that ``conf/detector`` offers, on classifiers of torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import Any

from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from harness.detectors.networks.tiny_backbone import WIDTHS, TinyBody, group_norm
from harness.detectors.networks.yolox_net import YOLOX, AnchorSizes, YOLOXBackbone
from harness.detectors.zoo.pretrained import DetectorError

STRIDES = (8, 16, 32)
TINY_ANCHORS = (((12, 12), (20, 20), (28, 28)), ((36, 36), (44, 44), (52, 52)))  # the embedded figures are square
batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)  # YOLOX's


@dataclass(frozen=True)
class Taps:
    """Where a classifier has its maps of stride 8, 16 and 32, and how many channels these have."""

    nodes: tuple[str, str, str]
    channels: tuple[int, int, int]


BODIES: Mapping[str, Taps] = {
    "mobilenet_v3_large": Taps(("features.6", "features.12", "features.15"), (40, 112, 160)),
    "resnet18": Taps(("layer2", "layer3", "layer4"), (128, 256, 512)),
    "resnet50": Taps(("layer2", "layer3", "layer4"), (512, 1024, 2048)),
}


def yolox_tiny(
    num_classes: int,
    weights_backbone: str | None = None,
    *,
    backbone: str = "mobilenet_v3_large",
    channels: int = 96,
    **options: Any,
) -> YOLOX:
    """The size of YOLOX-tiny (416 px, neck and head of 96 channels) on MobileNetV3; arguments as :func:`yolox_s`."""
    return yolox_s(num_classes, weights_backbone, backbone=backbone, channels=channels, **options)


def yolox_s(
    num_classes: int,
    weights_backbone: str | None = None,
    *,
    backbone: str = "resnet18",
    channels: int = 128,
    **options: Any,
) -> YOLOX:
    """The size of YOLOX-s (neck and head of 128 channels) on a ResNet-18 in place of a CSPDarknet.

    Args:
        num_classes: K + 1, with the background.
        weights_backbone: ``None`` or a name of torchvision's (``DEFAULT``, ``IMAGENET1K_V1``).
        backbone: ``mobilenet_v3_large | resnet18 | resnet50``.
        channels: of the neck and the head.
        options: of :class:`~harness.detectors.networks.yolox_net.YOLOX`: head, anchor_free, min_size, max_size, ...

    Raises:
        ValueError: an unknown backbone, name of weights or head, or anchors for other levels.
        DetectorError: no network for the weights.
    """
    if backbone not in BODIES:
        raise ValueError(f"backbone={backbone!r} is unknown; choose one of {', '.join(BODIES)}")
    taps = BODIES[backbone]
    body = create_feature_extractor(_classifier(backbone, weights_backbone), list(taps.nodes))
    levels = YOLOXBackbone(body, taps.nodes, taps.channels, STRIDES, channels, batch_norm)
    return YOLOX(levels, num_classes, norm_layer=batch_norm, **options)


def tiny_yolox(
    num_classes: int,
    *,
    channels: int = 64,
    levels: Sequence[int] = (8, 16),
    min_size: int = 128,
    max_size: int = 512,
    anchor_sizes: AnchorSizes = TINY_ANCHORS,
    score_thresh: float = 0.02,
    detections_per_img: int = 50,
    **options: Any,
) -> YOLOX:
    """A YOLOX with GroupNorm that learns the embedded data from scratch in two minutes on two cores.

    Args:
        num_classes: K + 1, with the background.
        channels: of the neck and the head, a multiple of 8.
        levels: strides, px, out of 4, 8 and 16.
        min_size: images are rescaled to this shorter side, px; the embedded images have it already.
        max_size: bound of the longer side, px.
        anchor_sizes: (width, height) px of a cell's anchors, level by level, for ``anchor_free=False``.
        score_thresh: of the detections' class probability x objectness.
        detections_per_img: at most so many.
        options: of :class:`~harness.detectors.networks.yolox_net.YOLOX`.

    Raises:
        ValueError: levels that do not exist, an unknown head, or anchors for other levels.
    """
    if not levels or any(level not in WIDTHS for level in levels):
        raise ValueError(f"levels={list(levels)} must be strides out of {', '.join(map(str, WIDTHS))}")
    widths = [WIDTHS[level] for level in levels]
    backbone = YOLOXBackbone(TinyBody(), levels, widths, levels, channels, group_norm)
    return YOLOX(
        backbone,
        num_classes,
        norm_layer=group_norm,
        min_size=min_size,
        max_size=max_size,
        anchor_sizes=anchor_sizes,
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        **options,
    )


def _classifier(name: str, weights: str | None) -> nn.Module:
    try:
        model: nn.Module = get_model(name, weights=weights)
    except KeyError as error:
        raise ValueError(f"detector.weights_backbone={weights!r} does not exist: {error}") from None
    except (OSError, HTTPException) as error:
        raise DetectorError(
            f"pretrained weights {weights} could not be downloaded ({error}); choose detector.weights_backbone=null"
        ) from error
    return model
