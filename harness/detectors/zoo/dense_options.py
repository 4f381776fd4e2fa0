"""RetinaNet and FCOS with another head: what a recipe asks of a detector, as options of its builder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from harness.coders import Coder, DeltaCoder, StrideDistanceCoder
from harness.core import limits
from harness.core.structures import Activation
from harness.criterion.heads import Geometry, HeadSpec
from harness.detectors.networks.dense_detector import DenseDetector
from harness.detectors.networks.dense_head import DenseBoxHead, DenseHead
from harness.detectors.networks.pyramid import PyramidGenerator
from harness.losses.terms import Branch

REGRESSIONS = ("deltas", "distances", "distribution")
BRANCHES = (Branch.NONE, Branch.CENTERNESS, Branch.IOU)
CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of mmdetection's ATSS and PAA: deviations .1, .1, .2, .2


@dataclass(frozen=True)
class HeadOptions:
    """How a dense head regresses and rates its boxes.

    Attributes:
        regression: ``deltas`` of an anchor; ``distances`` from its center to the sides, in strides; or a
            ``distribution`` over distances of 0 to ``reg_max`` strides for each side.
        reg_max: the longest distance of a distribution, strides.
        reg_margin: targets of a distribution end at ``reg_max - reg_margin``: .1 in mmdetection, .01 in Ultralytics.
        quality_branch: ``none``, ``centerness`` or ``iou``: what one logit per box predicts.
        refinement: a second, refined box; ``distances`` only.
        score_voting: PAA's vote of the suppressed boxes.

    Raises:
        ValueError: a value out of range, or a refinement of something else than distances.
    """

    regression: str
    quality_branch: str
    reg_max: int = 16
    reg_margin: float = 0.1
    refinement: bool = False
    score_voting: bool = False

    def __post_init__(self) -> None:
        limits.one_of("regression", self.regression, REGRESSIONS)
        limits.one_of("quality_branch", self.quality_branch, BRANCHES)
        limits.count("reg_max", self.reg_max, 1)
        limits.above("reg_margin", self.reg_margin, 0, 1)
        refines = not self.refinement or self.regression == "distances"
        limits.require(refines, "refinement", self.refinement, "false unless regression=distances")

    def keep(self, regression: str, quality_branch: str) -> bool:
        """Whether they describe the head of a torchvision detector that has this regression and branch."""
        own = (regression, quality_branch, False, False)
        return (self.regression, self.quality_branch, self.refinement, self.score_voting) == own

    @property
    def coder(self) -> Coder:
        """Of the head's numbers."""
        if self.regression == "deltas":
            return DeltaCoder(CODER_WEIGHTS)
        return StrideDistanceCoder(self.reg_max - self.reg_margin if self.regression == "distribution" else None)


class LeveledAnchors(PyramidGenerator, AnchorGenerator):
    """torchvision's anchors, which remember the pyramid they come from."""


def with_head(model: RetinaNet | FCOS, options: HeadOptions) -> DenseDetector:
    """A detector of the parts of ``model``, whose box predictors are replaced as ``options`` say.

    The backbone, the transform, the anchors and both towers of convolutions are those of ``model``, under the names
    that they have there.
    """
    head: Any = model.head
    classes, boxes = head.classification_head, head.regression_head
    own: Any = model.anchor_generator
    anchors = LeveledAnchors(own.sizes, own.aspect_ratios)
    per_cell = int(classes.num_anchors)
    bins = options.reg_max + 1 if options.regression == "distribution" else 0
    fresh = DenseBoxHead(
        boxes.conv,
        boxes.bbox_reg.in_channels,
        per_cell,
        regression=options.regression,
        bins=bins,
        branch=options.quality_branch != Branch.NONE,
        refinement=options.refinement,
    )
    columns = int(classes.num_classes)
    spec = HeadSpec(
        stage="dense",
        num_classes=columns - 1,
        columns=columns,
        first_column=1,
        background=None,
        activation=Activation.SIGMOID,
        geometry=Geometry.POINTS if isinstance(model, FCOS) else Geometry.ANCHORS,
        coder=options.coder,
        regression_bins=bins,
        branch=Branch(options.quality_branch),
        refines=options.refinement,
    )
    transform: nn.Module = model.transform
    return DenseDetector(
        model.backbone,
        anchors,
        DenseHead(classes, fresh),
        transform,
        spec=spec,
        score_thresh=model.score_thresh,
        nms_thresh=model.nms_thresh,
        detections_per_img=model.detections_per_img,
        topk_candidates=model.topk_candidates,
        score_voting=options.score_voting,
    )
