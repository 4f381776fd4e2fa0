"""A RetinaNet that learns from scratch in two minutes on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from harness.detectors.networks.tiny_backbone import group_norm, tiny_fpn


def tiny_retinanet(
    num_classes: int,
    *,
    channels: int = 64,
    levels: Sequence[int] = (8, 16),
    min_size: int = 128,
    max_size: int = 512,
    anchor_sizes: Sequence[Sequence[float]] = ((20.0, 28.3), (40.0, 56.6)),
    score_thresh: float = 0.02,
    detections_per_img: int = 50,
    **options: Any,
) -> RetinaNet:
    """torchvision's RetinaNet on the tiny pyramid, with GroupNorm in its towers.

    The towers are drawn with a standard deviation of .01, the paper's choice for pretrained features: from scratch,
    four convolutions in a row let nothing through unless they are normalised.

    Args:
        num_classes: K + 1, with the background.
        channels: of the pyramid and the towers, a multiple of 8.
        levels: strides of the pyramid, px.
        min_size: images are rescaled to this shorter side, px; the embedded images have it already.
        max_size: bound of the longer side, px.
        anchor_sizes: sides of the square anchors, px, level by level.
        score_thresh: of the detections.
        detections_per_img: at most so many.
        options: further parameters of torchvision's RetinaNet.
    """
    anchors = AnchorGenerator(tuple(map(tuple, anchor_sizes)), ((1.0,),) * len(anchor_sizes))
    per_cell = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(channels, per_cell, num_classes, norm_layer=group_norm)
    return RetinaNet(
        tiny_fpn(channels, levels),
        num_classes,
        min_size=min_size,
        max_size=max_size,
        anchor_generator=anchors,
        head=head,
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        **options,
    )
