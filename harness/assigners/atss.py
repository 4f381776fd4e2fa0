"""ATSS: a threshold for each object, from the IoUs of the candidates that are nearest to it."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import covered_by_crowd, overlaps
from harness.assigners.building_blocks.matching import highest_pair
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.point_squares import with_squares
from harness.core import limits
from harness.core.boxes import aligned_iou, centers
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.precision import double_precision
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need
from harness.core.topk import nearest

BYTES_PER_PAIR = 16

# The squared distance of candidates in crowd regions: behind all others, before the padding.
FAR = 1e16  # px^2


class ATSSAssigner:
    """Adaptive training sample selection.

    Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
    Selection", algorithm 1. Of every level the ``topk`` candidates whose centers are nearest to the object's compete;
    positive are those whose IoU is at least the mean plus the (unbiased) standard deviation of all competitors, and
    whose center is inside the object by more than ``inside_margin``. A candidate that is positive for several objects
    goes to the one of highest IoU, the first among equals. A single competitor has deviation 0, so that it reaches its
    own mean (the reference: NaN, never positive).

    Points (FCOS, YOLOX) are compared as squares of ``point_scale`` strides, the paper's ATSS on FCOS (section 3.2 and
    table 3: one square anchor of 8 strides per location). As squares of one stride they would not see an object's size.

    Several anchors stand around one point of the grid: with ``anchors_per_location`` A the nearest ``topk * A`` of a
    level compete, as in the authors' code (mmdetection's takes ``topk`` whatever A is).

    Args:
        topk: competitors per level and anchor of a location.
        anchors_per_location: anchors around each point of the grid, 1 or more.
        ignore_iof_thr: candidates with more than this share of their area inside a crowd region compete last, and are
            ignored unless positive; off unless > 0. Without matchable objects they are negative, as in the reference.
        point_scale: side of the square that stands for a point, in strides; anchors and proposals stay as they are.
        inside_margin: px that a positive's center is inside its object.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range.
    """

    needs: frozenset[Need] = frozenset({Need.LEVELS})

    def __init__(
        self,
        topk: int = 9,
        ignore_iof_thr: float = -1,
        point_scale: float = 8.0,
        anchors_per_location: int = 1,
        inside_margin: float = 0.01,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.topk = limits.count("topk", topk, 1)
        self.anchors_per_location = limits.count("anchors_per_location", anchors_per_location, 1)
        self.inside_margin = limits.at_least("inside_margin", inside_margin, 0)
        self.ignore_iof_thr = limits.between("ignore_iof_thr", ignore_iof_thr, -1, 1)
        self.point_scale = limits.above("point_scale", point_scale, 0)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        if truth.valid.shape[-1] == 0 or candidates.valid.shape[-1] == 0:
            return settle(torch.full_like(max_iou, NEGATIVE, dtype=torch.int64), max_iou, candidates.valid)
        candidates = with_squares(candidates, self.point_scale)
        covered = covered_by_crowd(truth, candidates, self.ignore_iof_thr, True, self.memory_bound)
        index, competes = self._competitors(truth, candidates, covered)
        slots = index.flatten(-2).unsqueeze(-1)
        boxes = candidates.boxes.gather(-2, slots.expand(*slots.shape[:-1], 4)).unflatten(-2, index.shape[-2:])
        objects = truth.boxes.unsqueeze(-2)
        iou = aligned_iou(objects, boxes)
        middle = centers(boxes)
        depth = torch.minimum((middle - objects[..., :2]).amin(-1), (objects[..., 2:] - middle).amin(-1))
        positive = (
            competes & truth.matchable.unsqueeze(-1) & (depth > self.inside_margin) & (iou >= threshold(iou, competes))
        )
        gt_index = highest_pair(index, positive, iou, max_iou.shape[-1])
        gt_index = torch.where(covered & (gt_index < 0), IGNORED, gt_index)
        gt_index = torch.where(truth.matchable.any(-1, keepdim=True), gt_index, NEGATIVE)
        return settle(gt_index, max_iou, candidates.valid)

    def _competitors(self, truth: GroundTruth, candidates: Candidates, covered: Tensor) -> tuple[Tensor, Tensor]:
        """``(*, G, levels * topk * A)`` indices of the nearest candidates of every level, and which of them exist."""
        x, y = (center.contiguous() for center in candidates.centers.unsqueeze(-3).unbind(-1))
        # Candidates of other levels are at no finite distance, those in crowd regions behind all others.
        penalties = []
        for level in range(candidates.num_levels):
            here = candidates.valid if candidates.level is None else candidates.valid & (candidates.level == level)
            penalties.append(torch.where(here, torch.where(covered, FAR, 0.0), torch.inf).unsqueeze(-2))
        indices, reals = [], []
        for _, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound):
            object_x, object_y = centers(some.boxes).unsqueeze(-2).unbind(-1)
            distance = (x - object_x).square_().add_((y - object_y).square_())  # ranking needs no root
            found = [nearest(distance + penalty, self.topk * self.anchors_per_location) for penalty in penalties]
            indices.append(torch.cat([index for index, _ in found], -1))
            reals.append(torch.cat([real for _, real in found], -1))
        return torch.cat(indices, -2), torch.cat(reals, -2)


def threshold(iou: Tensor, counts: Tensor) -> Tensor:
    """``(*, 1)`` mean plus unbiased standard deviation of the ``iou (*, S)`` that ``counts``; of one value, itself.

    In float64, where the mean of equal float32 numbers is that number: equal IoUs must all reach their threshold.
    """
    values = double_precision(iou).masked_fill(~counts, 0)
    count = counts.sum(-1, keepdim=True)
    mean = values.sum(-1, keepdim=True) / count.clamp(min=1)
    spread = (values - mean).square().masked_fill(~counts, 0).sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return mean.to(iou.dtype) + spread.sqrt().to(iou.dtype)
