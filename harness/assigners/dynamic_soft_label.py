"""Dynamic soft label assignment: SimOTA with a soft class target and a soft center prior (RTMDet)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.matching import match_dynamic_k
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.pairwise_costs import (
    center_distances,
    depth_in_boxes,
    log_probabilities,
    of_labels,
)
from harness.assigners.building_blocks.usable_predictions import Predicted, read_predictions
from harness.core import limits
from harness.core.boxes import pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import Assignment, Candidates, GroundTruth, Need

_IOU_EPS = 1e-7
BYTES_PER_PAIR = 20


class DynamicSoftLabelAssigner:
    """The assigner of RTMDet (Lyu et al. 2022, section 3.3).

    Candidates whose center lies in any object count, for every object. The cost of a pair is

    - the cross entropy of the object's class with the IoU as its target, times ``(IoU - score) ** 2``, and of the other
      classes with target 0, times ``score ** 2``;
    - ``- iou_weight * log(IoU)``;
    - ``10 ** (distance - soft_center_radius)``, the distance of the centers in strides.

    Then :func:`~harness.assigners.building_blocks.matching.match_dynamic_k`.

    Args:
        soft_center_radius: the distance of the centers, in strides, at which the center prior costs 1.
        topk: how many IoUs are summed to an object's number of candidates, which is the most it can have.
        iou_weight: of the regression cost.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions or strides.

    A candidate whose prediction is not finite is never positive. Computes in float32.
    """

    needs: frozenset[Need] = frozenset({Need.PREDICTIONS, Need.STRIDES})

    def __init__(
        self,
        soft_center_radius: float = 3.0,
        topk: int = 13,
        iou_weight: float = 3.0,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.soft_center_radius = limits.at_least("soft_center_radius", soft_center_radius, 0)
        self.topk = limits.count("topk", topk, 1)
        self.iou_weight = limits.at_least("iou_weight", iou_weight, 0)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def cost(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, G, N)`` cost of every pair, infinite where it must not be, and the IoU of its prediction, 0 there."""
        predicted = read_predictions(candidates, "DynamicSoftLabelAssigner")
        strides = candidates.strides_for("DynamicSoftLabelAssigner").float()
        centers, boxes = candidates.centers.float(), truth.boxes.float()
        inside = (depth_in_boxes(centers, boxes, truth.matchable) > 0).any(-2)
        allowed, matchable = (inside & predicted.usable).unsqueeze(-2), truth.matchable.unsqueeze(-1)

        iou = pairwise_iou(boxes, predicted.boxes)
        cost = self._classification(predicted, truth.labels, iou)
        cost.add_((iou + _IOU_EPS).log_(), alpha=-self.iou_weight)
        prior = center_distances(centers, boxes).div_(strides).sub_(self.soft_center_radius)
        cost.add_(torch.pow(10, prior))
        cost.add_(torch.where(allowed, 0.0, torch.inf)).add_(torch.where(matchable, 0.0, torch.inf))
        return cost, iou.mul_(allowed).mul_(matchable)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        gt_index = match_dynamic_k(*self.cost(truth, candidates), self.topk)
        return settle(gt_index, overlaps(truth, candidates, memory_bound=self.memory_bound).iou, candidates.valid)

    def _classification(self, predicted: Predicted, labels: Tensor, iou: Tensor) -> Tensor:
        """``(*, G, N)`` soft classification cost, without the ``(G, N, K)`` tensor of its definition.

        Only the term of the object's own class depends on the object: the sum over all classes as background, with that
        one term exchanged.
        """
        on, off = log_probabilities(predicted.scores)
        background = off * predicted.scores.square()  # negative
        score = of_labels(predicted.scores, labels)
        own = of_labels(on - off, labels).mul_(iou).add_(of_labels(off, labels)).neg_()
        own.mul_((iou - score).square_())
        return own.add_(of_labels(background, labels)).sub_(background.sum(-1).unsqueeze(-2))
