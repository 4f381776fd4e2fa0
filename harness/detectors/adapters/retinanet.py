"""torchvision's RetinaNet (Lin et al. 2017, "Focal Loss for Dense Object Detection") with any trio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor
from torchvision.models.detection import RetinaNet

from harness.coders import DeltaCoder
from harness.core.criterion import Criterion, StageComponents
from harness.core.heads import Geometry, HeadSpec, Outputs
from harness.core.structures import Activation
from harness.detectors.adapters.counterparts import assigner_like
from harness.detectors.adapters.dense import STAGE, dense_losses, dense_twin, unchanged_head
from harness.detectors.adapters.equipped import Equipped
from harness.detectors.networks.pyramid import PyramidAnchors
from harness.losses.classification.focal import FocalLoss
from harness.losses.interface import RegressionLoss
from harness.losses.pair import Loss, Normalizer
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
    """torchvision's own trio, with the thresholds and the box loss that this model was built with."""
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


class EquippedRetinaNet(Equipped, RetinaNet):
    """Mixed over the model's own class: the losses come from the criterion."""

    YIELDS_TO_SUBCLASSES = True

    def compute_loss(
        self, targets: Sequence[Mapping[str, Tensor]], head_outputs: Mapping[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """``classification`` and ``bbox_regression``, as torchvision names them."""
        outputs = Outputs(head_outputs["cls_logits"], head_outputs["bbox_regression"])
        losses = dense_losses(self.criteria[STAGE], targets, outputs, cast(PyramidAnchors, anchors).candidates())
        return {"classification": losses.classification, "bbox_regression": losses.regression}
