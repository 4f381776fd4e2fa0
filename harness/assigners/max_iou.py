"""Positive where the IoU with an object is high, negative where it is low with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import (
    BYTES_PER_PAIR,
    Claim,
    Similarity,
    covered_by_crowd,
    overlaps,
)
from harness.assigners.building_blocks.iou_thresholds import negative_range
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.boxes import pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need


class MaxIoUAssigner:
    """Thresholds on the IoU with the best object, then the best candidates of every object.

    Ren et al., "Faster R-CNN", section 3.1.2, in mmdetection's form, whose steps are:

    1. every candidate is ignored;
    2. it is negative if its highest IoU is below ``neg_iou_thr``, or in ``[low, high)`` of a pair;
    3. it is positive for its best object, the first among equals, if that IoU is at least ``pos_iou_thr``;
    4. every object takes its own best candidate if that IoU is at least ``min_pos_iou``; the later object wins. So
       with ``min_pos_iou`` 0 an object that overlaps nothing takes all candidates that do not overlap it either.

    torchvision differs in step 4: see :class:`~harness.assigners.torchvision.TorchvisionMatcher`.

    Without matchable objects every candidate is negative, those inside crowd regions too, as in the reference.

    Args:
        pos_iou_thr: lowest IoU of a positive, in [0, 1].
        neg_iou_thr: IoU that a negative stays below, or a pair (low, high).
        min_pos_iou: lowest IoU in step 4.
        gt_max_assign_all: in step 4 an object takes all candidates that tie for its best, not the first only.
        match_low_quality: whether there is a step 4 (RPN and one-stage heads: yes, RoI heads: no).
        ignore_iof_thr: candidates of which a crowd region covers more than this share are ignored; off unless > 0.
        ignore_wrt_candidates: whether that share is of the candidate's area or of the crowd region's.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a threshold outside its range.
    """

    needs: frozenset[Need] = frozenset({Need.SHAPES})

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | Sequence[float],
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        match_low_quality: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.pos_iou_thr = limits.between("pos_iou_thr", pos_iou_thr, 0, 1)
        self.negative_range = negative_range(neg_iou_thr, lowest=0.0)
        self.min_pos_iou = limits.between("min_pos_iou", min_pos_iou, 0, 1)
        self.claim = Claim.NONE
        if match_low_quality:
            self.claim = Claim.TIED if gt_max_assign_all else Claim.FIRST
        self.ignore_iof_thr = limits.between("ignore_iof_thr", ignore_iof_thr, -1, 1)
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        return settle(*self.decide(truth, candidates, pairwise_iou), candidates.valid)

    def decide(self, truth: GroundTruth, candidates: Candidates, similarity: Similarity) -> tuple[Tensor, Tensor]:
        """``(*, N)`` objects by these thresholds, and the similarity with the best object.

        Args:
            truth: ``(*, G)`` clean objects.
            candidates: ``(*, N)`` clean candidates.
            similarity: what the thresholds compare, ``(*, G, N)`` of boxes ``(*, G, 4)`` and ``(*, N, 4)``.
        """
        covered = covered_by_crowd(
            truth, candidates, self.ignore_iof_thr, self.ignore_wrt_candidates, self.memory_bound
        )
        found = overlaps(
            truth,
            candidates,
            memory_bound=self.memory_bound,
            claim=self.claim,
            eligible=~covered,
            worth=lambda highest: highest >= self.min_pos_iou,
            similarity=similarity,
        )
        low, high = self.negative_range
        gt_index = torch.where((found.iou >= low) & (found.iou < high), NEGATIVE, IGNORED)
        gt_index = torch.where(found.iou >= self.pos_iou_thr, found.best, gt_index)
        gt_index = torch.where(found.claimed_by >= 0, found.claimed_by, gt_index)
        gt_index = torch.where(covered, IGNORED, gt_index)
        return torch.where(truth.matchable.any(-1, keepdim=True), gt_index, NEGATIVE), found.iou
