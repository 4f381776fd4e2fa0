"""torchvision's SSD300 and SSDlite320 by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.ssd import SSD, SSDClassificationHead
from torchvision.models.detection.ssdlite import SSDLiteClassificationHead

from harness.detectors.zoo import pretrained
from harness.detectors.zoo.dense_predictor import columns_of

PREFIX = "head.{}_head.module_list.0."


class SSDPredictor:
    """The class convolutions of every level: an SSD has no towers, all of its head predicts."""

    def classes(self, state: Mapping[str, Tensor]) -> int:
        # In SSDlite the predictor is a block, whose last convolution counts.
        last = [
            [value for key, value in state.items() if key.startswith(PREFIX.format(kind)) and key.endswith(".weight")][
                -1
            ]
            for kind in ("classification", "regression")
        ]
        return columns_of(*last)

    def replace(self, model: Any, num_classes: int) -> None:
        old = model.head.classification_head.module_list
        anchors = model.anchor_generator.num_anchors_per_location()
        if isinstance(old[0], nn.Conv2d):
            fresh = SSDClassificationHead([layer.in_channels for layer in old], anchors, num_classes)
        else:
            channels = [block[0][0].in_channels for block in old]
            norm = type(old[0][0][1])
            eps, momentum = old[0][0][1].eps, old[0][0][1].momentum
            fresh = SSDLiteClassificationHead(
                channels, anchors, num_classes, lambda features: norm(features, eps=eps, momentum=momentum)
            )
        model.head.classification_head = fresh


build = partial(pretrained.build, SSDPredictor())


def ssd300_vgg16(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> SSD:
    """SSD300 (Liu et al. 2016); arguments as in :func:`harness.detectors.zoo.pretrained.build`.

    ``weights_backbone=DEFAULT`` is ``IMAGENET1K_FEATURES``, the weights that the detector's input scaling belongs to.
    """
    if weights_backbone == "DEFAULT":
        weights_backbone = "IMAGENET1K_FEATURES"
    return build(detection.ssd300_vgg16, num_classes, weights, weights_backbone, **options)


def ssdlite320_mobilenet_v3_large(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> SSD:
    """SSDlite (Howard et al. 2019, section 6.3); arguments as in :func:`harness.detectors.zoo.pretrained.build`."""
    return build(detection.ssdlite320_mobilenet_v3_large, num_classes, weights, weights_backbone, **options)
