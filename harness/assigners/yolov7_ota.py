"""YOLOv7's assignment: SimOTA among the anchors that YOLO's shape matching selects."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.matching import highest_object, lowest_object
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.pairwise_costs import label_cross_entropy
from harness.assigners.building_blocks.usable_predictions import read_predictions
from harness.assigners.yolo_ratio import YOLORatioAssigner
from harness.core import limits
from harness.core.boxes import pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need
from harness.core.topk import highest_of_each, lowest_of_each

IOU_EPS = 1e-8  # added to the IoU before its logarithm
BYTES_PER_PAIR = 60


@dataclass(frozen=True)
class PairCosts:
    """The cost of every pair of an object and a candidate."""

    cost: Tensor  # (*, G, N), infinite for pairs that must not be
    iou: Tensor  # (*, G, N) of the prediction with the object, 0 for pairs that must not be
    rows: Tensor  # (*, N) int64: how often shape matching selects the candidate, see YOLOv7OTAAssigner


class YOLOv7OTAAssigner:
    """The assignment of YOLOv7's loss (Wang et al. 2022, "YOLOv7", section 4.2; the authors' ``ComputeLossOTA``).

    1. Shape matching selects anchors: :class:`~harness.assigners.yolo_ratio.YOLORatioAssigner`, with the neighbors of
       the object's cell.
    2. Among all that are selected in an image, for whichever object, SimOTA: the cost of a pair is
       ``cls_weight * BCE(scores, one-hot label) - iou_weight * log(IoU)`` of its prediction, an object takes the
       cheapest, as many as its ``candidate_topk`` best IoUs sum up to, and what several objects take goes to the one of
       lowest cost among all objects.

    An anchor that is selected for several objects stands in the authors' list of candidates once for each, as a *row*.
    Every row counts in the sums and can be matched, so that one anchor can train for two objects. :meth:`matches` tells
    this whole relation; of equal rows an object takes the first ones. The assignment keeps one object for each anchor:
    the one that its first row is matched to.

    The authors' code scales objects by the image's height in x as well, which is wrong unless images are square; here
    boxes are in pixels. Left out: the second, coarser assignment of the auxiliary head.

    Args:
        anchor_t: bound of the ratio of sides in the shape matching, above 1.
        candidate_topk: how many IoUs are summed to an object's number of rows, which is the most it can have.
        iou_weight: of the regression cost.
        cls_weight: of the classification cost.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions or strides.

    The scores are those at inference: the root of the product of class and objectness.
    A candidate whose prediction is not finite is never positive. Computes in float32.
    """

    needs: frozenset[Need] = frozenset({Need.ANCHORS, Need.LEVELS, Need.STRIDES, Need.PREDICTIONS})

    def __init__(
        self,
        anchor_t: float = 4.0,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.shapes = YOLORatioAssigner(anchor_t, memory_bound)
        self.candidate_topk = limits.count("candidate_topk", candidate_topk, 1)
        self.iou_weight = limits.at_least("iou_weight", iou_weight, 0)
        self.cls_weight = limits.at_least("cls_weight", cls_weight, 0)
        self.memory_bound = self.shapes.memory_bound

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` anchors, around the centers of their cells, to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def costs(self, truth: GroundTruth, candidates: Candidates) -> PairCosts:
        """The costs of all pairs."""
        truth, candidates = clean(truth, candidates)
        predicted = read_predictions(candidates, "YOLOv7OTAAssigner", joint=True)
        rows = self.shapes.matches(truth, candidates).sum(-2)
        allowed = ((rows > 0) & predicted.usable).unsqueeze(-2) & truth.matchable.unsqueeze(-1)
        iou = pairwise_iou(truth.boxes.float(), predicted.boxes)
        cost = (iou + IOU_EPS).log_().mul_(-self.iou_weight)
        cost.add_(label_cross_entropy(predicted.scores, truth.labels), alpha=self.cls_weight)
        return PairCosts(torch.where(allowed, cost, torch.inf), iou * allowed, rows)

    def wanted(self, costs: PairCosts) -> Tensor:
        """``(*, G)`` int64: how many rows each object takes, before objects compete (the "dynamic k")."""
        index = highest_of_each(costs.iou, min(self.candidate_topk, costs.rows.shape[-1]))
        counted = self._first_rows(costs.rows, index, self.candidate_topk)
        return (costs.iou.gather(-1, index) * counted).sum(-1).long().clamp(min=1)

    def taken(self, costs: PairCosts) -> Tensor:
        """``(*, G, N)`` int64: how many rows of the candidate the object takes, before objects compete."""
        index = lowest_of_each(costs.cost, min(self.candidate_topk, costs.rows.shape[-1]))
        taken = self._first_rows(costs.rows, index, self.wanted(costs).unsqueeze(-1))
        taken = taken * costs.cost.gather(-1, index).isfinite()
        return torch.zeros_like(costs.cost, dtype=torch.int64).scatter(-1, index, taken)

    def matches(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` int64: how many rows of the candidate are matched to the object. Not bounded in memory."""
        costs = self.costs(truth, candidates)
        if 0 in costs.cost.shape:
            return torch.zeros_like(costs.cost, dtype=torch.int64)
        taken = self.taken(costs)
        most, owner, contested = _claims(taken)
        objects = torch.arange(taken.shape[-2], device=taken.device).unsqueeze(-1)
        rival = lowest_object(costs.cost).unsqueeze(-2)
        alone = (most - contested).unsqueeze(-2) * (objects == owner.unsqueeze(-2))
        return alone + contested.unsqueeze(-2) * (objects == rival)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        if truth.labels.shape[-1] == 0 or candidates.valid.shape[-1] == 0:
            return settle(torch.full_like(max_iou, NEGATIVE, dtype=torch.int64), max_iou, candidates.valid)
        costs = self.costs(truth, candidates)
        most, owner, contested = _claims(self.taken(costs))
        gt_index = torch.where(contested > 0, lowest_object(costs.cost), owner)
        return settle(torch.where(most > 0, gt_index, NEGATIVE), max_iou, candidates.valid)

    def _first_rows(self, rows: Tensor, index: Tensor, count: Tensor | int) -> Tensor:
        """``(*, G, k)`` int64: of the ranked candidates ``index (*, G, k)``, how many rows are among the first
        ``count``
        of all rows, where candidate n has ``rows (*, N)`` of them."""
        own = rows.gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])
        before = own.cumsum(-1) - own
        return torch.minimum((count - before).clamp(min=0), own)


def _claims(taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of ``taken (*, G, N)`` rows: the most that one object takes, that object (the first of equal ones), and how many
    rows several objects take, each ``(*, N)`` int64. Objects take the first rows, so that they meet there."""
    most = taken.amax(-2)
    owner = highest_object(taken)
    others = taken.scatter(-2, owner.unsqueeze(-2), 0)
    return most, owner, others.amax(-2)
