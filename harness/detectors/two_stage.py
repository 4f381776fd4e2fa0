"""Faster, Mask and Keypoint R-CNN: an RPN and an RoI head, each with a trio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from torch import nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from harness.assigners.torchvision import TorchvisionMatcher
from harness.coders import DeltaCoder
from harness.criterion import Criterion, Trio
from harness.detectors.equipped import Equipped, mixed, replace_module
from harness.detectors.roi import EquippedRoIHeads
from harness.detectors.rpn import EquippedRPN
from harness.heads import Geometry, Head
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropy
from harness.losses.classification.cross_entropy import CrossEntropy
from harness.losses.pair import Loss, Normalizer
from harness.losses.regression.smooth_l1 import SmoothL1
from harness.samplers.random import RandomSampler
from harness.types import Activation

HOST = GeneralizedRCNN
ROOT = "roi"
BETA = 1 / 9  # of torchvision's smooth L1, in both stages


class EquippedRCNN(Equipped, GeneralizedRCNN):
    """A :class:`GeneralizedRCNN` whose RPN and RoI head train by criteria."""


def rpn_head() -> Head:
    """The RPN: one sigmoid logit an anchor, every object the same class."""
    return Head(
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


def roi_head(stage: str, columns: int, weights: tuple[float, float, float, float], class_specific: bool = True) -> Head:
    """An RoI head over ``columns`` classes with the background in column 0; ``weights`` are its box coder's."""
    return Head(
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


def heads(model: GeneralizedRCNN) -> dict[str, Head]:
    """The facts of the RPN and the RoI head of ``model``."""
    roi = cast(RoIHeads, model.roi_heads)
    return {"rpn": rpn_head(), "roi": roi_head("roi", class_columns(roi.box_predictor), tuple(roi.box_coder.weights))}


def class_columns(predictor: nn.Module) -> int:
    """How many classes a box predictor tells apart, background included.

    Raises:
        TypeError: a predictor without torchvision's ``cls_score`` layer.
    """
    layer = getattr(predictor, "cls_score", None)
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"{type(predictor).__name__} has no linear layer 'cls_score' that tells the number of classes")
    return layer.out_features


def natural(model: GeneralizedRCNN) -> dict[str, Trio]:
    """torchvision's trios, with the thresholds and quotas that ``model`` was built with."""
    rpn, roi = cast(RegionProposalNetwork, model.rpn), cast(RoIHeads, model.roi_heads)
    return {
        "rpn": Trio(
            matcher(rpn.proposal_matcher),
            quota(rpn.fg_bg_sampler),
            Loss(BinaryCrossEntropy(), SmoothL1(beta=BETA), Normalizer.SAMPLED),
        ),
        "roi": Trio(
            matcher(roi.proposal_matcher),
            quota(roi.fg_bg_sampler),
            Loss(CrossEntropy(), SmoothL1(beta=BETA), Normalizer.SAMPLED),
        ),
    }


def matcher(host: object) -> TorchvisionMatcher:
    """Our matcher with the thresholds of torchvision's."""
    return TorchvisionMatcher(
        high_threshold=host.high_threshold,  # type: ignore[attr-defined]
        low_threshold=host.low_threshold,  # type: ignore[attr-defined]
        allow_low_quality_matches=host.allow_low_quality_matches,  # type: ignore[attr-defined]
    )


def quota(host: object) -> RandomSampler:
    """Our random sampler with the quotas of torchvision's."""
    return RandomSampler(num=host.batch_size_per_image, pos_fraction=host.positive_fraction)  # type: ignore[attr-defined]


def fit(head: Head, loss: Loss) -> Head:
    """An RoI head's inference follows the loss: with a sigmoid one, scores are sigmoids and column 0 means nothing."""
    if head.stage == "rpn" or loss.classification.activation is head.activation:
        return head
    return replace(head, activation=loss.classification.activation, background=None)


def adapt(model: GeneralizedRCNN, criteria: Mapping[str, Criterion]) -> GeneralizedRCNN:
    """The twin of ``model`` over the same modules, but for its RPN and RoI head, which are twins, too."""
    twin = mixed(model, EquippedRCNN, criteria=dict(criteria))
    replace_module(twin, "rpn", mixed(model.rpn, EquippedRPN, criterion=criteria["rpn"]))
    replace_module(twin, "roi_heads", mixed(model.roi_heads, EquippedRoIHeads, criterion=criteria["roi"]))
    return twin
