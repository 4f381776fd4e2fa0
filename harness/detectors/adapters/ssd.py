"""torchvision's SSD and SSDlite (Liu et al. 2016, "SSD: Single Shot MultiBox Detector") with any components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torchvision.models.detection.ssd import SSD

from harness.assigners.ssd import SSDMatcher
from harness.coders import DeltaCoder
from harness.core.structures import Activation
from harness.criterion.criterion import Criterion
from harness.criterion.heads import Geometry, HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.adapters.dense import STAGE, EquippedDense, FullPrecisionDetections, dense_twin, unchanged_head
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.samplers.hard_negative import HardNegativeSampler

HOST = SSD
ROOT = STAGE
head_under = unchanged_head


def heads(model: SSD) -> dict[str, HeadSpec]:
    """One softmax head with the background in column 0."""
    columns = int(model.head.classification_head.num_columns)
    return {
        STAGE: HeadSpec(
            stage=STAGE,
            num_classes=columns - 1,
            columns=columns,
            first_column=1,
            background=0,
            activation=Activation.SOFTMAX,
            geometry=Geometry.ANCHORS,
            coder=DeltaCoder(tuple(model.box_coder.weights), model.box_coder.bbox_xform_clip),
        )
    }


def default_components(model: SSD) -> dict[str, StageComponents]:
    """torchvision's own components, with the threshold and the ratio that this model was built with.

    torchvision's mining counts a positive a second time, as a background, in an image where ``ratio x positives``
    exceeds the negatives. The sampler here takes all negatives there, and is equal elsewhere.
    """
    assigner = SSDMatcher(model.proposal_matcher.high_threshold)
    loss = Loss(CrossEntropyLoss(), SmoothL1Loss(beta=1.0), Normalizer.POSITIVES)
    return {STAGE: StageComponents(assigner, HardNegativeSampler(model.neg_to_pos_ratio), loss)}


def adapt(model: SSD, criteria: Mapping[str, Criterion]) -> SSD:
    """The twin of ``model`` that trains with ``criteria``."""
    return dense_twin(model, EquippedSSD, criteria)


class EquippedSSD(EquippedDense, FullPrecisionDetections, SSD):
    """Mixed over the model's own class: the losses come from the criterion."""

    LOSS_NAMES: ClassVar[Mapping[str, str]] = {"regression": "bbox_regression", "classification": "classification"}
