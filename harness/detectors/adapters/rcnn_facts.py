"""The facts of the heads of the R-CNN family."""

from __future__ import annotations

from torch import nn

from harness.coders import DeltaCoder
from harness.core.structures import Activation
from harness.criterion.heads import Geometry, HeadSpec


def rpn_head() -> HeadSpec:
    """The RPN: one sigmoid logit per anchor, every object the same class."""
    return HeadSpec(
        stage="rpn",
        num_classes=1,
        columns=1,
        first_column=0,
        background=None,
        activation=Activation.SIGMOID,
        geometry=Geometry.ANCHORS,
        coder=DeltaCoder((1.0, 1.0, 1.0, 1.0)),
        class_agnostic_truth=True,
    )


def roi_head(
    stage: str, columns: int, weights: tuple[float, float, float, float], class_specific: bool = True
) -> HeadSpec:
    """An RoI head over ``columns`` classes with the background in column 0; ``weights`` are its box coder's."""
    return HeadSpec(
        stage=stage,
        num_classes=columns - 1,
        columns=columns,
        first_column=1,
        background=0,
        activation=Activation.SOFTMAX,
        geometry=Geometry.PROPOSALS,
        coder=DeltaCoder(weights),
        class_specific=class_specific,
        has_levels=False,
    )


def class_columns(predictor: nn.Module) -> int:
    """How many classes a box predictor tells apart, background included.

    Raises:
        TypeError: a predictor without torchvision's ``cls_score`` layer.
    """
    layer = getattr(predictor, "cls_score", None)
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{type(predictor).__name__} has no linear layer 'cls_score' that tells the number of classes")
    return layer.out_features
