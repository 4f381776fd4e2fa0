"""SimOTA: every object takes its cheapest candidates, as many as its best predictions overlap it (YOLOX)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.matching import match_dynamic_k
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.pairwise_costs import (
    depth_in_boxes,
    depth_in_centers,
    label_cross_entropy,
)
from harness.assigners.building_blocks.usable_predictions import read_predictions
from harness.core import limits
from harness.core.boxes import pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import Assignment, Candidates, GroundTruth, Need

BYTES_PER_PAIR = 16


@dataclass(frozen=True)
class _Flavour:
    center_radius: float  # the published one
    boxes_count: bool  # being inside a box counts as well as being near its center
    iou_eps: float  # added to the IoU before its logarithm
    penalty: float  # the cost of a pair that lies outside


_FLAVOURS = {
    "mmdet": _Flavour(center_radius=2.5, boxes_count=True, iou_eps=1e-7, penalty=1e5),
    "yolox": _Flavour(center_radius=1.5, boxes_count=False, iou_eps=1e-8, penalty=1e6),
}


class SimOTAAssigner:
    """The simplified optimal transport of YOLOX (Ge et al. 2021, section 2.1), in the form of mmdetection or of YOLOX.

    A candidate counts if its center lies in the region of any object; its cost for an object is
    ``cls_weight * BCE(scores, one-hot label) - iou_weight * log(IoU)`` of its prediction, plus a penalty (not an
    exclusion) where it lies outside *this* object's own region. Then
    :func:`~harness.assigners.building_blocks.matching.match_dynamic_k`.

    The flavours differ in the region: ``mmdet`` counts candidates in any box or near any center and penalizes a pair
    that is not both; ``yolox`` (its release of 2022 and later) knows the centers only.

    Args:
        center_radius: half the side of the square around a center, in strides; ``None`` takes the flavour's, 2.5 for
            mmdet and 1.5 for yolox.
        candidate_topk: how many IoUs are summed to an object's number of candidates, which is the most it can have.
        iou_weight: of the regression cost.
        cls_weight: of the classification cost.
        flavour: ``mmdet`` or ``yolox``.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions or strides.

    The scores are those at inference: with a branch (objectness, centerness) the root of its product with the class's.
    A candidate whose prediction is not finite is never positive. Computes in float32.
    """

    needs: frozenset[Need] = frozenset({Need.PREDICTIONS, Need.STRIDES})

    def __init__(
        self,
        center_radius: float | None = None,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        flavour: str = "mmdet",
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.flavour = _FLAVOURS[limits.one_of("flavour", flavour, _FLAVOURS)]
        radius = limits.optional(limits.above, "center_radius", center_radius, 0)
        self.center_radius = self.flavour.center_radius if radius is None else radius
        self.candidate_topk = limits.count("candidate_topk", candidate_topk, 1)
        self.iou_weight = limits.at_least("iou_weight", iou_weight, 0)
        self.cls_weight = limits.at_least("cls_weight", cls_weight, 0)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def cost(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, G, N)`` cost of every pair, infinite where it must not be, and the IoU of its prediction, 0 there."""
        predicted = read_predictions(candidates, "SimOTAAssigner", joint=True)
        outside, region = self._regions(truth, candidates)
        allowed = (region & predicted.usable).unsqueeze(-2)
        iou = pairwise_iou(truth.boxes.float(), predicted.boxes)
        cost = (iou + self.flavour.iou_eps).log_().mul_(-self.iou_weight)
        cost.add_(label_cross_entropy(predicted.scores, truth.labels), alpha=self.cls_weight)
        cost.add_(outside, alpha=self.flavour.penalty)
        matchable = truth.matchable.unsqueeze(-1)
        cost.add_(torch.where(allowed, 0.0, torch.inf)).add_(torch.where(matchable, 0.0, torch.inf))
        return cost, iou.mul_(allowed).mul_(matchable)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        gt_index = match_dynamic_k(*self.cost(truth, candidates), self.candidate_topk)
        return settle(gt_index, overlaps(truth, candidates, memory_bound=self.memory_bound).iou, candidates.valid)

    def _regions(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, G, N)`` bool, outside the region of this object, and ``(*, N)`` bool, in the region of any."""
        centers, boxes, matchable = candidates.centers.float(), truth.boxes.float(), truth.matchable
        radius = candidates.strides_for("SimOTAAssigner").float() * self.center_radius
        near = depth_in_centers(centers, boxes, matchable, radius)
        if not self.flavour.boxes_count:
            return near <= 0, (near > 0).any(-2)
        inside = depth_in_boxes(centers, boxes, matchable)
        return torch.minimum(near, inside) <= 0, (torch.maximum(near, inside) > 0).any(-2)
