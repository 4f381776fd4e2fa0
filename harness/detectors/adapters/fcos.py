"""torchvision's FCOS (Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection") with any trio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection import FCOS

from harness.assigners.fcos import FCOSAssigner
from harness.coders import LinearCoder
from harness.core.criterion import Criterion, StageComponents
from harness.core.heads import Geometry, HeadSpec, Outputs
from harness.core.structures import Activation, full_precision
from harness.detectors.adapters.dense import STAGE, DenseLosses, dense_losses, dense_twin, unchanged_head
from harness.detectors.adapters.equipped import Equipped
from harness.detectors.networks.pyramid import PyramidAnchors
from harness.losses.classification.focal import FocalLoss
from harness.losses.pair import Loss, Normalizer
from harness.losses.regression.giou import GIoULoss
from harness.samplers.all import AllSampler

HOST = FCOS
ROOT = STAGE
head_under = unchanged_head


def heads(model: FCOS) -> dict[str, HeadSpec]:
    """One sigmoid head over points; column 0 is never on, because torchvision's labels count from 1."""
    columns = int(model.head.classification_head.num_classes)
    return {
        STAGE: HeadSpec(
            stage=STAGE,
            num_classes=columns - 1,
            columns=columns,
            first_column=1,
            background=None,
            activation=Activation.SIGMOID,
            geometry=Geometry.POINTS,
            coder=LinearCoder(model.box_coder.normalize_by_size),
        )
    }


def default_components(model: FCOS) -> dict[str, StageComponents]:
    """torchvision's own trio, with the radius that this model was built with."""
    loss = Loss(FocalLoss(), GIoULoss(), Normalizer.POSITIVES)
    return {STAGE: StageComponents(FCOSAssigner(model.center_sampling_radius), AllSampler(), loss)}


def adapt(model: FCOS, criteria: Mapping[str, Criterion]) -> FCOS:
    """The twin of ``model`` that trains with ``criteria``."""
    return dense_twin(model, EquippedFCOS, criteria)


class EquippedFCOS(Equipped, FCOS):
    """Mixed over the model's own class: the losses come from the criterion, the centre-ness from here."""

    YIELDS_TO_SUBCLASSES = True

    def compute_loss(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        head_outputs: Mapping[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """``classification``, ``bbox_regression`` and ``bbox_ctrness``, as torchvision names them.

        Pieces that ask for predictions see scores ``sqrt(class x centre-ness)``, as inference does.
        """
        outputs = Outputs(
            head_outputs["cls_logits"], head_outputs["bbox_regression"], head_outputs["bbox_ctrness"].squeeze(-1)
        )
        candidates = cast(PyramidAnchors, anchors).candidates(stride_is_side=True)
        criterion = self.criteria[STAGE]
        losses = dense_losses(criterion, targets, outputs, candidates)
        return {
            "classification": losses.classification,
            "bbox_regression": losses.regression,
            "bbox_ctrness": _centerness_loss(criterion.loss, losses),
        }


def _centerness_loss(loss: Loss, losses: DenseLosses) -> Tensor:
    """Binary cross entropy on the positives, over the stage's normaliser (the paper's equation 3)."""
    sample, targets = losses.selection.sample, losses.selection.targets
    logits = full_precision(cast(Tensor, losses.outputs.objectness))
    target = centerness(targets.boxes, targets.candidates)
    return loss.reduce(
        binary_cross_entropy_with_logits(logits, target, reduction="none") * sample.weight * sample.positive, sample
    )


def centerness(boxes: Tensor, candidates: Tensor) -> Tensor:
    """``(*,)`` in [0, 1]: how central the candidate's centre lies in its object (the paper's equation 3).

    0 for a centre outside of the object, which FCOS's own assigner never calls positive but others do.
    """
    center = (candidates[..., :2] + candidates[..., 2:]) / 2
    first, last = (center - boxes[..., :2]).clamp(min=0), (boxes[..., 2:] - center).clamp(min=0)
    ratio = torch.minimum(first, last) / torch.maximum(first, last).clamp(min=1e-9)
    return (ratio[..., 0] * ratio[..., 1]).sqrt()
