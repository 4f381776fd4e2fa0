"""torchvision's FCOS by name, with its own head or a coupled one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models import detection
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead

from harness.detectors.networks.coupled_fcos_head import CoupledFCOSHead
from harness.detectors.networks.dense_detector import DenseDetector
from harness.detectors.zoo.dense_options import HeadOptions, with_head
from harness.detectors.zoo.dense_predictor import TowerPredictor
from harness.detectors.zoo.pretrained import build
from harness.losses.terms import Branch

HEADS: Mapping[str, type[nn.Module]] = {"coupled": CoupledFCOSHead, "decoupled": FCOSHead}
CHANNELS = 256  # of torchvision's pyramid
BRANCHLESS_SCORE_THRESH = 0.05  # of GFL, VarifocalNet and TOOD (mmdetection), as of torchvision's RetinaNet


def fcos_head(kind: str, channels: int, num_classes: int, num_convs: int = 4) -> nn.Module:
    """A ``coupled`` or ``decoupled`` head over one point per cell.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in HEADS:
        raise ValueError(f"head={kind!r} is unknown; choose one of {', '.join(HEADS)}")
    return HEADS[kind](channels, 1, num_classes, num_convs)


def fcos_resnet50_fpn(
    num_classes: int,
    weights: str | None = None,
    weights_backbone: str | None = None,
    *,
    head: str = "decoupled",
    regression: str = "distances",
    reg_max: int = 16,
    reg_margin: float = 0.1,
    quality_branch: str = "centerness",
    refinement: bool = False,
    score_voting: bool = False,
    **options: Any,
) -> FCOS | DenseDetector:
    """FCOS (Tian et al. 2019).

    Args:
        num_classes: K + 1, with the background.
        weights: as in :func:`harness.detectors.zoo.pretrained.build`; named weights are of the decoupled head.
        weights_backbone: as there.
        head: ``decoupled`` (FCOS's own) or ``coupled``.
        regression: this and the next five: as :class:`~harness.detectors.zoo.dense_options.HeadOptions` says. With
            distances, a centerness branch and no voting it is torchvision's FCOS; else the box predictors start from
            scratch, whatever the weights.
        reg_max: as there.
        reg_margin: as there.
        quality_branch: as there.
        refinement: as there.
        score_voting: as there.
        options: further parameters of torchvision's builder. Its ``score_thresh``, .2, is of the square root of class
            times centerness; without a branch the score is the class alone, and .05 the default.

    Raises:
        ValueError: an unknown head, an option of it out of range, or trained weights asked for a coupled one.
    """
    chosen = HeadOptions(regression, quality_branch, reg_max, reg_margin, refinement, score_voting)
    if head != "decoupled":
        if weights is not None:
            raise ValueError(
                f"detector.weights={weights!r} are of the decoupled head; head={head!r} needs weights=null"
            )
        options["head"] = fcos_head(head, CHANNELS, num_classes)
    if chosen.quality_branch == Branch.NONE:
        options.setdefault("score_thresh", BRANCHLESS_SCORE_THRESH)
    model = build(TowerPredictor(), detection.fcos_resnet50_fpn, num_classes, weights, weights_backbone, **options)
    return fcos_with(model, head, chosen)


def fcos_with(model: FCOS, head: str, options: HeadOptions) -> FCOS | DenseDetector:
    """``model``, with another head where ``options`` ask for one.

    Raises:
        ValueError: the head is coupled, and has no tower of its own for the boxes.
    """
    if options.keep("distances", "centerness"):
        return model
    if head != "decoupled":
        raise ValueError(f"head={head!r} has distances and a centerness branch only; other options need head=decoupled")
    return with_head(model, options)
