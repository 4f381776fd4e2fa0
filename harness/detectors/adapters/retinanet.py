"""torchvision's RetinaNet (Lin et al. 2017, "Focal Loss for Dense Object Detection") with any components."""

from __future__ import annotations

from collections.abc import Mapping

from torchvision.models.detection import RetinaNet

from harness.coders import DeltaCoder
from harness.core.structures import Activation
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry, HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.adapters.counterparts import assigner_like
from harness.detectors.adapters.dense import STAGE, EquippedDense, FullPrecisionDetections, dense_twin, unchanged_head
from harness.losses.classification.focal import FocalLoss
from harness.losses.interface import RegressionLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.giou import GIoULoss
from harness.losses.regression.l1 import L1Loss
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.samplers.all import AllSampler

HOST = RetinaNet
ROOT = STAGE
head_under = unchanged_head


def heads(model: RetinaNet) -> dict[str, HeadSpec]:
    """One sigmoid head; column 0 is never on, because torchvision's labels count from 1."""
    columns = int(model.head.classification_head.num_classes)
    return {
        STAGE: HeadSpec(
            stage=STAGE,
            num_classes=columns - 1,
            columns=columns,
            first_column=1,
            background=None,
            activation=Activation.SIGMOID,
            geometry=Geometry.ANCHORS,
            coder=DeltaCoder(tuple(model.box_coder.weights), model.box_coder.bbox_xform_clip),
        )
    }


def default_components(model: RetinaNet) -> dict[str, StageComponents]:
    """torchvision's own components, with the thresholds and the box loss that this model was built with."""
    loss = Loss(FocalLoss(), _box_loss(model.head.regression_head._loss_type), Normalizer.IMAGE_POSITIVES)
    return {STAGE: StageComponents(assigner_like(model.proposal_matcher), AllSampler(), loss)}


def _box_loss(kind: str) -> RegressionLoss:
    """torchvision's ``_loss_type``: ``l1`` in RetinaNet, ``giou`` in its v2."""
    match kind:
        case "l1":
            return L1Loss()
        case "smooth_l1":
            return SmoothL1Loss(beta=1.0)
        case "giou":
            return GIoULoss()
        case _:
            raise ValueError(f"RetinaNet's box loss {kind!r} has no counterpart here; give equip a loss")


def adapt(model: RetinaNet, criteria: Mapping[str, Criterion]) -> RetinaNet:
    """The twin of ``model`` that trains with ``criteria``."""
    return dense_twin(model, EquippedRetinaNet, criteria)


class EquippedRetinaNet(EquippedDense, FullPrecisionDetections, RetinaNet):
    """Mixed over the model's own class: the losses come from the criterion."""
