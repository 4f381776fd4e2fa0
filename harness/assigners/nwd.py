"""NWD: the thresholds of Faster R-CNN on the normalized Wasserstein distance instead of the IoU, for tiny objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.gaussian_boxes import normalized_wasserstein
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.max_iou import MaxIoUAssigner
from harness.core import limits
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import Assignment, Candidates, GroundTruth, Need

BYTES_PER_PAIR = 20


class NWDAssigner:
    """Label assignment by the normalized Wasserstein distance.

    Wang et al. 2021, "A normalized Gaussian Wasserstein distance for tiny object detection", section 3.3. The steps
    are those of :class:`~harness.assigners.max_iou.MaxIoUAssigner`. What the thresholds compare is
    ``exp(-W / constant)`` in (0, 1], ``W`` being the Wasserstein distance of two boxes as Gaussians, px
    (:mod:`~harness.assigners.building_blocks.gaussian_boxes`). It is smooth where a few pixels decide whether a tiny
    object overlaps an anchor at all. ``max_iou`` of the assignment is the IoU as everywhere.

    Left out: the paper also replaces the IoU in non-maximum suppression; detectors here keep theirs.

    Args:
        pos_iou_thr: lowest NWD of a positive, in [0, 1].
        neg_iou_thr: NWD that a negative stays below, or a pair (low, high).
        min_pos_iou: lowest NWD at which an object takes its best candidate.
        gt_max_assign_all: an object takes all candidates that tie for its best, not the first only.
        match_low_quality: whether objects take their best candidates at all.
        constant: px, above 0; of the order of the objects' mean size (12.8 for AI-TOD in the authors' code).
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range.
    """

    needs: frozenset[Need] = frozenset({Need.SHAPES})

    def __init__(
        self,
        pos_iou_thr: float = 0.7,
        neg_iou_thr: float | Sequence[float] = 0.3,
        min_pos_iou: float = 0.3,
        gt_max_assign_all: bool = True,
        match_low_quality: bool = True,
        constant: float = 12.8,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.thresholds = MaxIoUAssigner(
            pos_iou_thr,
            neg_iou_thr,
            min_pos_iou,
            gt_max_assign_all,
            match_low_quality,
            memory_bound=memory_bound,
        )
        self.similarity = partial(normalized_wasserstein, constant=limits.above("constant", constant, 0))
        self.memory_bound = self.thresholds.memory_bound

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        gt_index, _ = self.thresholds.decide(truth, candidates, self.similarity)
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        return settle(gt_index, max_iou, candidates.valid)
