"""Faster, Mask and Keypoint R-CNN: an RPN and an RoI head, each with components of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from harness.criterion.criterion import Criterion
from harness.criterion.heads import HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.adapters.counterparts import assigner_like, sampler_like
from harness.detectors.adapters.equipped import Equipped
from harness.detectors.adapters.mixing import mixed, refuse_overrides, replace_module
from harness.detectors.adapters.rcnn_facts import class_columns, roi_head, rpn_head
from harness.detectors.adapters.roi import EquippedRoIHeads
from harness.detectors.adapters.rpn import EquippedRPN
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.smooth_l1 import SmoothL1Loss

HOST = GeneralizedRCNN
ROOT = "roi"
BETA = 1 / 9  # of torchvision's smooth L1, in both stages


class EquippedRCNN(Equipped, GeneralizedRCNN):
    """A :class:`GeneralizedRCNN` whose RPN and RoI head train by criteria."""


def heads(model: GeneralizedRCNN) -> dict[str, HeadSpec]:
    """The facts of the RPN and the RoI head of ``model``."""
    roi = cast(RoIHeads, model.roi_heads)
    return {"rpn": rpn_head(), "roi": roi_head("roi", class_columns(roi.box_predictor), tuple(roi.box_coder.weights))}


def default_components(model: GeneralizedRCNN) -> dict[str, StageComponents]:
    """torchvision's components, with the thresholds and quotas that ``model`` was built with."""
    rpn, roi = cast(RegionProposalNetwork, model.rpn), cast(RoIHeads, model.roi_heads)
    return {
        "rpn": rpn_components(rpn),
        "roi": StageComponents(
            assigner_like(roi.proposal_matcher),
            sampler_like(roi.fg_bg_sampler),
            Loss(CrossEntropyLoss(), SmoothL1Loss(beta=BETA), Normalizer.SAMPLED),
        ),
    }


def rpn_components(rpn: RegionProposalNetwork) -> StageComponents:
    """torchvision's components of an RPN."""
    return StageComponents(
        assigner_like(rpn.proposal_matcher),
        sampler_like(rpn.fg_bg_sampler),
        Loss(BinaryCrossEntropyLoss(), SmoothL1Loss(beta=BETA), Normalizer.SAMPLED),
    )


def head_under(head: HeadSpec, loss: Loss) -> HeadSpec:
    """An RoI head's inference follows the loss: with a sigmoid one, scores are sigmoids.

    Column 0 then means nothing, unless the loss keeps the background in a column of its own (EQLv2).
    """
    classification = loss.classification
    if head.stage == "rpn" or classification.activation is head.activation:
        return head
    background = head.background if classification.background_last else None
    return replace(head, activation=classification.activation, background=background)


def adapt(model: GeneralizedRCNN, criteria: Mapping[str, Criterion]) -> GeneralizedRCNN:
    """The twin of ``model`` over the same modules, but for its RPN and RoI head, which are twins, too."""
    refuse_overrides(model.rpn, RegionProposalNetwork, EquippedRPN.BYPASSED)
    refuse_overrides(model.roi_heads, RoIHeads, EquippedRoIHeads.BYPASSED)
    twin = mixed(model, EquippedRCNN, criteria=dict(criteria))
    replace_module(twin, "rpn", mixed(model.rpn, EquippedRPN, criterion=criteria["rpn"]))
    replace_module(twin, "roi_heads", mixed(model.roi_heads, EquippedRoIHeads, criterion=criteria["roi"]))
    return twin
