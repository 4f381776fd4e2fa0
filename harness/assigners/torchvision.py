"""torchvision's matcher of RPN, RoI heads and RetinaNet, for whole batches and without a wait for the device."""

from __future__ import annotations

import torch

from harness.assigners.building_blocks.best_overlaps import BYTES_PER_PAIR, Claim, overlaps
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need


class TorchvisionMatcher:
    """Thresholds on the IoU with the best object; a low-quality match keeps the candidate's own best object.

    Ren et al., "Faster R-CNN", section 3.1.2, in torchvision's form. It differs from
    :class:`~harness.assigners.max_iou.MaxIoUAssigner` where an object's best candidate is below ``high_threshold``:
    here that candidate (all that tie) becomes positive for the object that *it* overlaps most, at whatever IoU, while
    there the object itself takes it if ``min_pos_iou`` is reached. An image without objects, which torchvision's
    class refuses, has negatives only.

    Args:
        high_threshold: lowest IoU of a positive, in [0, 1].
        low_threshold: a candidate below it is negative; from it up to ``high_threshold`` it is ignored.
        allow_low_quality_matches: whether the best candidates of every object are positive, too.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for thresholds outside [0, 1], or in the wrong order.
    """

    needs: frozenset[Need] = frozenset({Need.SHAPES})

    def __init__(
        self,
        high_threshold: float,
        low_threshold: float,
        allow_low_quality_matches: bool = False,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        a_number = isinstance(low_threshold, (int, float))
        limits.require(a_number, "low_threshold", low_threshold, "a number; only max_iou takes a pair")
        self.high_threshold = limits.between("high_threshold", high_threshold, 0, 1)
        self.low_threshold = limits.between("low_threshold", low_threshold, 0, high_threshold)
        self.claim = Claim.TIED if allow_low_quality_matches else Claim.NONE
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        found = overlaps(truth, candidates, memory_bound=self.memory_bound, claim=self.claim)
        gt_index = torch.where(found.iou < self.low_threshold, NEGATIVE, IGNORED)
        gt_index = torch.where((found.iou >= self.high_threshold) | (found.claimed_by >= 0), found.best, gt_index)
        gt_index = torch.where(truth.matchable.any(-1, keepdim=True), gt_index, NEGATIVE)
        return settle(gt_index, found.iou, candidates.valid)
