"""torchvision's FCOS (Tian et al. 2019, "FCOS: Fully Convolutional One-Stage Object Detection") with any components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torchvision.models.detection import FCOS

from harness.assigners.fcos import FCOSAssigner
from harness.coders import LinearCoder
from harness.core.structures import Activation
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry, HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.adapters.dense import STAGE, EquippedDense, FullPrecisionDetections, dense_twin, unchanged_head
from harness.losses.classification.focal import FocalLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.giou import GIoULoss
from harness.losses.terms import Branch
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
            branch=Branch.CENTERNESS,
        )
    }


def default_components(model: FCOS) -> dict[str, StageComponents]:
    """torchvision's own components, with the radius that this model was built with."""
    loss = Loss(FocalLoss(), GIoULoss(), Normalizer.POSITIVES)
    return {STAGE: StageComponents(FCOSAssigner(model.center_sampling_radius), AllSampler(), loss)}


def adapt(model: FCOS, criteria: Mapping[str, Criterion]) -> FCOS:
    """The twin of ``model`` that trains with ``criteria``."""
    return dense_twin(model, EquippedFCOS, criteria)


class EquippedFCOS(EquippedDense, FullPrecisionDetections, FCOS):
    """Mixed over the model's own class: the losses come from the criterion.

    Pieces that ask for predictions see scores ``sqrt(class x centerness)``, as inference does.
    """

    LOSS_NAMES: ClassVar[Mapping[str, str]] = {
        "classification": "classification",
        "regression": "bbox_regression",
        Branch.CENTERNESS: "bbox_ctrness",
    }
    BRANCH: ClassVar[str] = "bbox_ctrness"
