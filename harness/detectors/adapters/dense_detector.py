"""Detectors with a head of our own (distances, distributions, a branch that rates the boxes), with any components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.assigners.fcos import FCOSAssigner
from harness.assigners.torchvision import TorchvisionMatcher
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry, HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.adapters.dense import STAGE, EquippedDense, dense_twin, unchanged_head
from harness.detectors.networks.dense_detector import DenseDetector
from harness.losses.classification.focal import FocalLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.giou import GIoULoss
from harness.samplers.all import AllSampler

HOST = DenseDetector
ROOT = STAGE
head_under = unchanged_head


def heads(model: DenseDetector) -> dict[str, HeadSpec]:
    """The facts that the detector carries."""
    return {STAGE: model.spec}


def default_components(model: DenseDetector) -> dict[str, StageComponents]:
    """Of the torchvision detector whose anchors it has: RetinaNet's assignment on anchors, FCOS's on points.

    The box loss is GIoU, which any of the heads can train.
    """
    if model.spec.geometry is Geometry.POINTS:
        loss = Loss(FocalLoss(), GIoULoss(), Normalizer.POSITIVES)
        return {STAGE: StageComponents(FCOSAssigner(), AllSampler(), loss)}
    loss = Loss(FocalLoss(), GIoULoss(), Normalizer.IMAGE_POSITIVES)
    return {STAGE: StageComponents(TorchvisionMatcher(0.5, 0.4, True), AllSampler(), loss)}


def adapt(model: DenseDetector, criteria: Mapping[str, Criterion]) -> DenseDetector:
    """The twin of ``model`` that trains with ``criteria``."""
    return dense_twin(model, EquippedDenseDetector, criteria)


class EquippedDenseDetector(EquippedDense, DenseDetector):
    """Mixed over the model's own class: the losses come from the criterion."""

    BRANCH: ClassVar[str] = "branch"
