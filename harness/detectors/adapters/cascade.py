"""Cascade R-CNN (Cai & Vasconcelos 2018) built of torchvision's parts; each of its stages has components of its own.

A stage's candidates are the boxes that the stage before trained on, as it corrected them, and the objects again: so the
quality of the candidates rises with the threshold. Where a stage's sampler ranks candidates by their loss or by their
predictions (OHEM), the stage before corrects all of its candidates for it, without gradient: among the few hundred that
it trained on there would be nothing to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork

from harness.assigners.torchvision import TorchvisionMatcher
from harness.core.structures import Candidates, GroundTruth
from harness.criterion.criterion import Criterion
from harness.criterion.heads import HeadSpec, Outputs
from harness.criterion.stage import Selection, StageComponents
from harness.detectors.adapters import rcnn
from harness.detectors.adapters.box_branch import proposal_candidates, with_truth
from harness.detectors.adapters.equipped import Equipped
from harness.detectors.adapters.loss_names import named_losses
from harness.detectors.adapters.mixing import mixed, replace_module
from harness.detectors.adapters.rcnn_facts import rpn_head
from harness.detectors.adapters.rpn import EquippedRPN
from harness.detectors.adapters.targets import ground_truth
from harness.detectors.networks.cascade_heads import STAGES, CascadeRoIHeads
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.pair import Loss
from harness.losses.reduction import Normalizer
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.samplers.random import RandomSampler

ROOT = rcnn.ROOT


class CascadeRCNN(GeneralizedRCNN):
    """A :class:`GeneralizedRCNN` whose RoI heads are :class:`CascadeRoIHeads`."""


HOST = CascadeRCNN


class EquippedCascadeRCNN(Equipped, CascadeRCNN):
    """A :class:`CascadeRCNN` whose stages train by criteria."""


class EquippedCascade(CascadeRoIHeads):
    """Trains stage by stage by its criteria, stage -> criterion."""

    YIELDS_TO_SUBCLASSES = True

    criteria: Mapping[str, Criterion]

    def probabilities(self, name: str, logits: Tensor) -> Tensor:
        criterion = self.criteria[name]
        return criterion.head.probabilities(logits, criterion.loss.classification)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        if targets is None:
            raise ValueError("targets are needed in training mode")
        truth = ground_truth(targets, proposals[0].dtype, self.criteria[ROOT].head.num_classes)
        candidates, losses = proposal_candidates(proposals, image_shapes), {}
        for name in STAGES:
            selection, outputs = self._select(name, features, candidates, truth, image_shapes)
            stage_losses = self.criteria[name](outputs, selection)
            losses.update(named_losses(name, stage_losses))
            if name == STAGES[-1]:
                break
            if self.criteria[STAGES[STAGES.index(name) + 1]].sampler_ranks:
                candidates = self._all_refined(name, features, selection.candidates, image_shapes)
            else:
                candidates = self._next(name, outputs, selection, image_shapes)
        return [], losses

    def _select(
        self,
        name: str,
        features: dict[str, Tensor],
        candidates: Candidates,
        truth: GroundTruth,
        image_shapes: list[tuple[int, int]],
    ) -> tuple[Selection, Outputs]:
        """What the stage trains on, and its outputs there."""
        criterion, branch = self.criteria[name], self.branch(name)
        if criterion.sampler.add_gt_as_proposals:
            candidates = with_truth(candidates, truth)
        selection = criterion.select(
            truth, candidates, lambda: branch.peek(features, candidates.boxes, candidates.valid, image_shapes)
        )
        return selection, branch.chosen(features, candidates, selection.sample, image_shapes)

    def _next(
        self, name: str, outputs: Outputs, selection: Selection, image_shapes: list[tuple[int, int]]
    ) -> Candidates:
        """The stage's boxes as it corrects them, without the objects that joined and what has lost its area."""
        sample, before = selection.sample, selection.candidates
        boxes = self.refined(name, outputs, sample.take(before.boxes), image_shapes)
        valid = sample.used & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        if before.is_truth is not None:
            valid = valid & ~sample.take(before.is_truth)
        return Candidates(boxes, valid, image_sizes=before.image_sizes)

    def _all_refined(
        self, name: str, features: dict[str, Tensor], before: Candidates, image_shapes: list[tuple[int, int]]
    ) -> Candidates:
        """All candidates of the stage as it corrects them, without the objects that joined and what has no area."""
        outputs = self.branch(name).peek(features, before.boxes, before.valid, image_shapes)
        boxes = self.refined(name, outputs, before.boxes, image_shapes)
        valid = before.valid & (boxes[..., 2:] > boxes[..., :2]).all(-1)
        if before.is_truth is not None:
            valid = valid & ~before.is_truth
        return Candidates(boxes, valid, image_sizes=before.image_sizes)


def heads(model: CascadeRCNN) -> dict[str, HeadSpec]:
    """The facts of the RPN and of the three stages."""
    roi = cast(CascadeRoIHeads, model.roi_heads)
    return {"rpn": rpn_head(), **{name: roi.stage(name).head for name in STAGES}}


def default_components(model: CascadeRCNN) -> dict[str, StageComponents]:
    """The paper's thresholds; torchvision's quotas and losses."""
    rpn, roi = cast(RegionProposalNetwork, model.rpn), cast(CascadeRoIHeads, model.roi_heads)
    return {"rpn": rcnn.rpn_components(rpn), **{name: _components(roi, name) for name in STAGES}}


def _components(roi: CascadeRoIHeads, name: str) -> StageComponents:
    stage = roi.stage(name)
    return StageComponents(
        TorchvisionMatcher(stage.iou_threshold, stage.iou_threshold, allow_low_quality_matches=False),
        RandomSampler(num=roi.batch_size_per_image, pos_fraction=roi.positive_fraction),
        Loss(
            CrossEntropyLoss(),
            SmoothL1Loss(beta=rcnn.BETA),
            Normalizer.SAMPLED,
            classification_weight=stage.loss_weight,
            regression_weight=stage.loss_weight,
        ),
    )


head_under = rcnn.head_under


def adapt(model: CascadeRCNN, criteria: Mapping[str, Criterion]) -> CascadeRCNN:
    """The twin of ``model`` over the same modules, but for its RPN and RoI heads, which are twins, too."""
    twin = mixed(model, EquippedCascadeRCNN, criteria=dict(criteria))
    replace_module(twin, "rpn", mixed(model.rpn, EquippedRPN, criterion=criteria["rpn"]))
    stages = {name: criteria[name] for name in STAGES}
    replace_module(twin, "roi_heads", mixed(model.roi_heads, EquippedCascade, criteria=stages))
    return twin
