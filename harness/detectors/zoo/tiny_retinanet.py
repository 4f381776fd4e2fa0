"""A RetinaNet that learns from scratch in two minutes on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from harness.detectors.networks.dense_detector import DenseDetector
from harness.detectors.networks.tiny_backbone import group_norm, tiny_fpn
from harness.detectors.zoo.dense_options import HeadOptions, with_head


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
    regression: str = "deltas",
    reg_max: int = 16,
    reg_margin: float = 0.1,
    quality_branch: str = "none",
    refinement: bool = False,
    score_voting: bool = False,
    **options: Any,
) -> RetinaNet | DenseDetector:
    """torchvision's RetinaNet on the tiny pyramid, with GroupNorm in its towers.

    The towers are drawn with a standard deviation of .01, the paper's choice for pretrained features: from scratch,
    four convolutions in a row let nothing through unless they are normalized.

    Args:
        num_classes: K + 1, with the background.
        channels: of the pyramid and the towers, a multiple of 8.
        levels: strides of the pyramid, px.
        min_size: images are rescaled to this shorter side, px; the embedded images have it already.
        max_size: bound of the longer side, px.
        anchor_sizes: sides of the square anchors, px, level by level.
        score_thresh: of the detections.
        detections_per_img: at most so many.
        regression: this and the next five: as :class:`~harness.detectors.zoo.dense_options.HeadOptions` says. With
            deltas, no branch and no voting it is torchvision's RetinaNet.
        reg_max: as there.
        reg_margin: as there.
        quality_branch: as there.
        refinement: as there.
        score_voting: as there.
        options: further parameters of torchvision's RetinaNet.

    Raises:
        ValueError: an option of the head out of range.
    """
    chosen = HeadOptions(regression, quality_branch, reg_max, reg_margin, refinement, score_voting)
    anchors = AnchorGenerator(tuple(map(tuple, anchor_sizes)), ((1.0,),) * len(anchor_sizes))
    per_cell = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(channels, per_cell, num_classes, norm_layer=group_norm)
    model = RetinaNet(
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
    return model if chosen.keep("deltas", "none") else with_head(model, chosen)
