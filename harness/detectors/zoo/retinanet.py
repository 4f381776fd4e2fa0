"""torchvision's RetinaNets by name, with their own head or another one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torchvision.models import detection
from torchvision.models.detection import RetinaNet

from harness.detectors.networks.dense_detector import DenseDetector
from harness.detectors.zoo import pretrained
from harness.detectors.zoo.dense_options import HeadOptions, with_head
from harness.detectors.zoo.dense_predictor import TowerPredictor

build = partial(pretrained.build, TowerPredictor())


def retinanet_resnet50_fpn(
    num_classes: int,
    weights: str | None = None,
    weights_backbone: str | None = None,
    *,
    regression: str = "deltas",
    reg_max: int = 16,
    reg_margin: float = 0.1,
    quality_branch: str = "none",
    refinement: bool = False,
    score_voting: bool = False,
    **options: Any,
) -> RetinaNet | DenseDetector:
    """RetinaNet (Lin et al. 2017).

    Args:
        num_classes: K + 1, with the background.
        weights: as in :func:`harness.detectors.zoo.pretrained.build`.
        weights_backbone: as there.
        regression: this and the next five: as :class:`~harness.detectors.zoo.dense_options.HeadOptions` says. With
            deltas, no branch and no voting it is torchvision's RetinaNet; else the box predictors start from scratch,
            whatever the weights.
        reg_max: as there.
        reg_margin: as there.
        quality_branch: as there.
        refinement: as there.
        score_voting: as there.
        options: further parameters of torchvision's builder.

    Raises:
        ValueError: an option of the head out of range.
    """
    chosen = HeadOptions(regression, quality_branch, reg_max, reg_margin, refinement, score_voting)
    return _built(detection.retinanet_resnet50_fpn, chosen, num_classes, weights, weights_backbone, **options)


def retinanet_resnet50_fpn_v2(
    num_classes: int,
    weights: str | None = None,
    weights_backbone: str | None = None,
    *,
    regression: str = "deltas",
    reg_max: int = 16,
    reg_margin: float = 0.1,
    quality_branch: str = "none",
    refinement: bool = False,
    score_voting: bool = False,
    **options: Any,
) -> RetinaNet | DenseDetector:
    """The same with GroupNorm in the towers and the GIoU loss (Zhang et al. 2020's recipe)."""
    chosen = HeadOptions(regression, quality_branch, reg_max, reg_margin, refinement, score_voting)
    return _built(detection.retinanet_resnet50_fpn_v2, chosen, num_classes, weights, weights_backbone, **options)


def _built(
    builder: Callable[..., RetinaNet], chosen: HeadOptions, *arguments: Any, **options: Any
) -> RetinaNet | DenseDetector:
    model = build(builder, *arguments, **options)
    return model if chosen.keep("deltas", "none") else with_head(model, chosen)
