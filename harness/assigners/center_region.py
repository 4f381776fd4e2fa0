"""Positive in the core of an object, with a margin around it that its class does not count in."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.boxes import area, pairwise_intersection, scaled
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need

BYTES_PER_PAIR = 16


class CenterRegionAssigner:
    """The effective and the ignoring region of FSAF.

    Zhu et al., "Feature Selective Anchor-Free Module", section 3.2. A candidate is in an object's core if its center
    is strictly inside the object and more than ``min_pos_iof`` of its area overlaps the box shrunk by ``pos_scale``.
    The smallest object whose core holds the candidate takes it, the later one of equals. The object *shadows* the
    candidates that overlap its box shrunk by ``neg_scale`` in the same way outside its core, and those of its core that
    a smaller object took: there its class should not count in the loss (:meth:`shadows`). A positive that an object of
    its own class shadows becomes negative unless ``foreground_dominate``. Candidates whose center is inside a crowd
    region shrunk by ``ignore_gt_scale`` are ignored.

    This is FSAF's assignment within a level. Its online feature selection (section 3.3), by which an object trains on
    the one level of lowest loss, is not part of it: here an object takes the candidates of its core on all levels.

    Args:
        pos_scale: side of the core, a fraction of the object's.
        neg_scale: side of the region outside of which an object has no say.
        min_pos_iof: share of a candidate's area that has to overlap a region.
        ignore_gt_scale: side of the ignoring region of a crowd box.
        foreground_dominate: positives stay positive where an object of their class shadows them.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range.
    """

    needs: frozenset[Need] = frozenset()

    def __init__(
        self,
        pos_scale: float = 0.2,
        neg_scale: float = 0.2,
        min_pos_iof: float = 0.01,
        ignore_gt_scale: float = 0.5,
        foreground_dominate: bool = False,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.pos_scale = limits.at_least("pos_scale", pos_scale, 0)
        self.neg_scale = limits.at_least("neg_scale", neg_scale, 0)
        self.min_pos_iof = limits.between("min_pos_iof", min_pos_iof, 0, 1)
        self.ignore_gt_scale = limits.at_least("ignore_gt_scale", ignore_gt_scale, 0)
        self.foreground_dominate = foreground_dominate
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def shadows(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` bool: at this candidate the class of this object should not count in the loss.

        The whole relation at once: unlike the assignment it is not bounded in memory.
        """
        return self._decide(*clean(truth, candidates))[1]

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        return settle(self._decide(truth, candidates)[0], max_iou, candidates.valid)

    def _decide(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        if truth.valid.shape[-1] == 0:
            none = torch.full_like(candidates.valid, NEGATIVE, dtype=torch.int64)
            return none, candidates.valid.unsqueeze(-2).expand(truth.valid.shape + candidates.valid.shape[-1:])
        points = candidates.centers
        possible = truth.matchable.unsqueeze(-1) & candidates.valid.unsqueeze(-2)
        core = possible & holds(truth.boxes, points) & self._touches(truth, candidates, self.pos_scale)
        taken = smallest_object(truth.boxes, core)
        rows = torch.arange(core.shape[-2], device=core.device).unsqueeze(-1)
        mine = taken.unsqueeze(-2) == rows
        shadow = (possible & self._touches(truth, candidates, self.neg_scale) & ~core) | (core & ~mine)

        regions = scaled(truth.boxes, self.ignore_gt_scale)
        ignored = (holds(regions, points) & (truth.crowd & truth.valid).unsqueeze(-1)).any(-2)
        labels = truth.labels.gather(-1, taken.clamp(min=0))
        same_class = labels.unsqueeze(-2) == truth.labels.unsqueeze(-1)
        rivals = shadow & same_class & ((taken >= 0) & ~ignored).unsqueeze(-2)
        if self.foreground_dominate:
            shadow = shadow & ~rivals
        else:
            taken = torch.where(rivals.any(-2), NEGATIVE, taken)
        return torch.where(ignored, IGNORED, taken), shadow

    def _touches(self, truth: GroundTruth, candidates: Candidates, scale: float) -> Tensor:
        """``(*, G, N)`` bool: enough of the candidate's area is inside the scaled object."""
        shared = pairwise_intersection(scaled(truth.boxes, scale), candidates.boxes)
        return shared / area(candidates.boxes).clamp(min=1e-6).unsqueeze(-2) > self.min_pos_iof


def holds(boxes: Tensor, points: Tensor) -> Tensor:
    """``(*, G, N)`` bool: the point ``(*, N, 2)`` is strictly inside the box ``(*, G, 4)``."""
    x, y = points.unsqueeze(-3).unbind(-1)
    x1, y1, x2, y2 = boxes.unsqueeze(-2).unbind(-1)
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def smallest_object(boxes: Tensor, admits: Tensor) -> Tensor:
    """``(*, N)``: the smallest object that ``admits (*, G, N)`` the candidate, the last of equals, or NEGATIVE."""
    rank = area(boxes).neg().argsort(stable=True, dim=-1).argsort(-1).unsqueeze(-1)
    best, index = torch.where(admits, rank, -1).max(-2)
    return torch.where(best >= 0, index, NEGATIVE)
