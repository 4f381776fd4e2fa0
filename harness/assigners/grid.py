"""IoU thresholds, but positive only in the cell that holds an object's center."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import BYTES_PER_PAIR, Claim, overlaps
from harness.assigners.building_blocks.grid_cells import cells
from harness.assigners.building_blocks.iou_thresholds import negative_range
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.boxes import centers
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need


class GridAssigner:
    """YOLOv3's assignment.

    Redmon and Farhadi, "YOLOv3", section 2.1, in mmdetection's form: the steps of
    :class:`~harness.assigners.max_iou.MaxIoUAssigner`, in which only *responsible* candidates can be positive, those
    whose cell holds the center of some object: the square of side = stride around their own center. All comparisons are
    the other way round at equality: a positive is above ``pos_iou_thr``, a negative at most at ``neg_iou_thr`` (of a
    pair: above low, at most high), and an object's best responsible candidate has to be above ``min_pos_iou``.

    Args:
        pos_iou_thr: IoU that a positive exceeds.
        neg_iou_thr: highest IoU of a negative, or a pair (low, high).
        min_pos_iou: IoU that an object's best candidate exceeds.
        gt_max_assign_all: an object takes all responsible candidates that tie for its best, not the first only.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a threshold outside its range; on call, if the candidates carry no strides.
    """

    needs: frozenset[Need] = frozenset({Need.ANCHORS, Need.STRIDES})

    def __init__(
        self,
        pos_iou_thr: float = 0.5,
        neg_iou_thr: float | Sequence[float] = 0.5,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.pos_iou_thr = limits.between("pos_iou_thr", pos_iou_thr, 0, 1)
        self.negative_range = negative_range(neg_iou_thr, lowest=-1.0)
        self.min_pos_iou = limits.between("min_pos_iou", min_pos_iou, 0, 1)
        self.claim = Claim.TIED if gt_max_assign_all else Claim.FIRST
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates with strides to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(
            lambda truth, candidates: self.assign(truth, candidates, self.responsible(truth, candidates)),
            truth,
            candidates,
            bytes_per_pair=BYTES_PER_PAIR,
            memory_bound=self.memory_bound,
        )

    def responsible(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, N)`` bool: the candidate's cell holds the center of an object."""
        stride = candidates.strides_for("GridAssigner")
        truth, candidates = clean(truth, candidates)
        own, begin = (part.unsqueeze(-3).unbind(-1) for part in cells(candidates, stride))
        (column, row), (left, top) = ([axis.contiguous() for axis in part] for part in (own, begin))
        found = torch.zeros_like(candidates.valid)
        for _, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound):
            x, y = centers(some.boxes).unsqueeze(-2).unbind(-1)
            holds = (x / stride).sub_(left).floor_().eq_(column).mul_((y / stride).sub_(top).floor_().eq_(row))
            found = found | (holds.mul_(some.matchable.to(holds.dtype).unsqueeze(-1)).amax(-2) > 0)
        return found & candidates.valid

    def assign(self, truth: GroundTruth, candidates: Candidates, responsible: Tensor) -> Assignment:
        """The assignment where ``responsible (*, N)`` says which candidates can be positive."""
        truth, candidates = clean(truth, candidates)
        found = overlaps(
            truth,
            candidates,
            memory_bound=self.memory_bound,
            claim=self.claim,
            eligible=responsible,
            worth=lambda highest: highest > self.min_pos_iou,
        )
        low, high = self.negative_range
        gt_index = torch.where((found.iou > low) & (found.iou <= high), NEGATIVE, IGNORED)
        gt_index = torch.where(responsible & (found.iou > self.pos_iou_thr), found.best, gt_index)
        gt_index = torch.where(found.claimed_by >= 0, found.claimed_by, gt_index)
        gt_index = torch.where(truth.matchable.any(-1, keepdim=True), gt_index, NEGATIVE)
        return settle(gt_index, found.iou, candidates.valid)
