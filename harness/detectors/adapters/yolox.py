"""YOLOX (Ge et al. 2021) with any components; SimOTA is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.assigners.simota import SimOTAAssigner
from harness.criterion.criterion import Criterion
from harness.criterion.heads import HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.adapters.dense import STAGE, EquippedDense, dense_twin, unchanged_head
from harness.detectors.networks.yolox_net import YOLOX
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.iou import IoULoss
from harness.samplers.all import AllSampler

HOST = YOLOX
ROOT = STAGE
head_under = unchanged_head


def heads(model: YOLOX) -> dict[str, HeadSpec]:
    """One sigmoid head without a background column: the objectness branch learns the background."""
    return {STAGE: model.spec}


def default_components(model: YOLOX) -> dict[str, StageComponents]:
    """The report's: SimOTA; binary cross entropy with the IoU as soft target; 5 x (1 - IoU^2)."""
    loss = Loss(BinaryCrossEntropyLoss(soft=True), IoULoss(mode="square"), Normalizer.POSITIVES, regression_weight=5.0)
    return {STAGE: StageComponents(SimOTAAssigner(flavour="yolox"), AllSampler(), loss)}


def adapt(model: YOLOX, criteria: Mapping[str, Criterion]) -> YOLOX:
    """The twin of ``model`` that trains with ``criteria``."""
    return dense_twin(model, EquippedYOLOX, criteria)


class EquippedYOLOX(EquippedDense, YOLOX):
    """Mixed over the model's own class: the losses come from the criterion.

    The objectness is learnt by every slot of the sample: 1 for a positive, 0 for a negative.
    """

    BRANCH: ClassVar[str] = "objectness"
