"""SSD's matching: one threshold, and every object takes its best default box."""

from __future__ import annotations

import torch

from harness.assigners.building_blocks.best_overlaps import BYTES_PER_PAIR, Claim, overlaps
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need


class SSDMatcher:
    """Positive from ``threshold`` on, else negative; then every object takes its best candidate.

    Liu et al., "SSD", section 2.2 "Matching strategy", in torchvision's form: an object takes one candidate, the first
    of those that tie, whatever the IoU, and the later object wins a candidate that two of them want.

    Args:
        threshold: lowest IoU of a positive, in [0, 1].
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a threshold outside [0, 1].
    """

    needs: frozenset[Need] = frozenset({Need.SHAPES})

    def __init__(self, threshold: float = 0.5, memory_bound: int = MEMORY_BOUND) -> None:
        self.threshold = limits.between("threshold", threshold, 0, 1)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        found = overlaps(truth, candidates, memory_bound=self.memory_bound, claim=Claim.FIRST)
        gt_index = torch.where(found.iou >= self.threshold, found.best, NEGATIVE)
        gt_index = torch.where(found.claimed_by >= 0, found.claimed_by, gt_index)
        gt_index = torch.where(truth.matchable.any(-1, keepdim=True), gt_index, NEGATIVE)
        return settle(gt_index, found.iou, candidates.valid)
