"""An FCOS that learns from scratch in two minutes on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator

from harness.detectors.networks.dense_detector import DenseDetector
from harness.detectors.networks.tiny_backbone import tiny_fpn
from harness.detectors.zoo.dense_options import HeadOptions
from harness.detectors.zoo.fcos import fcos_head, fcos_with

START = 2.0  # strides from the point to each side of its box, before training


def tiny_fcos(
    num_classes: int,
    *,
    head: str = "decoupled",
    channels: int = 64,
    levels: Sequence[int] = (8, 16),
    num_convs: int = 2,
    min_size: int = 128,
    max_size: int = 512,
    score_thresh: float = 0.02,
    detections_per_img: int = 50,
    regression: str = "distances",
    reg_max: int = 16,
    reg_margin: float = 0.1,
    quality_branch: str = "centerness",
    refinement: bool = False,
    score_voting: bool = False,
    **options: Any,
) -> FCOS | DenseDetector:
    """torchvision's FCOS on the tiny pyramid.

    torchvision's distances to the sides are the ReLU of a predictor that starts at zero. From scratch, at the learning
    rate that a two-minute training needs, a side whose logit turns negative everywhere never learns again (mAP .01
    after 1,500 iterations). They start at two strides instead.

    Args:
        num_classes: K + 1, with the background.
        head: ``decoupled`` (FCOS's own) or ``coupled``.
        channels: of the pyramid and the towers, a multiple of 32.
        levels: strides of the pyramid, px.
        num_convs: of each tower.
        min_size: images are rescaled to this shorter side, px; the embedded images have it already.
        max_size: bound of the longer side, px.
        score_thresh: of the detections, sqrt(class x center-ness).
        detections_per_img: at most so many.
        regression: this and the next five: as :class:`~harness.detectors.zoo.dense_options.HeadOptions` says. With
            distances, a centerness branch and no voting it is torchvision's FCOS.
        reg_max: as there.
        reg_margin: as there.
        quality_branch: as there.
        refinement: as there.
        score_voting: as there.
        options: further parameters of torchvision's FCOS.

    Raises:
        ValueError: an unknown head, or an option of it out of range.
    """
    chosen = HeadOptions(regression, quality_branch, reg_max, reg_margin, refinement, score_voting)
    fresh = fcos_head(head, channels, num_classes, num_convs)
    nn.init.constant_(fresh.regression_head.bbox_reg.bias, START)  # type: ignore[union-attr, arg-type]
    model = FCOS(
        tiny_fpn(channels, levels),
        num_classes,
        min_size=min_size,
        max_size=max_size,
        anchor_generator=AnchorGenerator(tuple((level,) for level in levels), ((1.0,),) * len(levels)),
        head=fresh,
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        **options,
    )
    return fcos_with(model, head, chosen)
