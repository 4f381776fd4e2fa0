"""The point assigner of RepPoints: on the level of its size, an object takes the nearest points."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.matching import highest_pair
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.boxes import centers
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need
from harness.core.topk import nearest

BYTES_PER_PAIR = 24
MIN_SIDE = 1e-6  # px; an object without area still has a level and a distance


class PointAssigner:
    """Scale-aware nearest points.

    Yang et al. 2019, "RepPoints", section 4.1 (assignment of the first stage), in mmdetection's form. The level of an
    object is ``log2`` of its mean side (the geometric one) over ``scale``, rounded toward 0: an object of ``scale`` to
    ``2 * scale`` times the stride. Where the pyramid does not have that level, the nearest one counts, the finer of
    two. There the ``pos_num`` points nearest to the object's center are positive, the distance along each axis being
    measured in the object's sides. A point that several objects take goes to the one at the smallest distance, the
    first of equal ones. All other points are negative. Of a candidate only its center and stride count.

    Left out: the second stage of RepPoints, which assigns the refined boxes by IoU.

    Args:
        scale: side of an object, in strides, from which on it belongs to a level.
        pos_num: points of an object; the paper takes the one whose cell holds its center.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range; on call, if the candidates carry no strides.
    """

    needs: frozenset[Need] = frozenset({Need.STRIDES})

    def __init__(self, scale: float = 4.0, pos_num: int = 1, memory_bound: int = MEMORY_BOUND) -> None:
        self.scale = limits.above("scale", scale, 0)
        self.pos_num = limits.count("pos_num", pos_num, 1)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` points to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        count = candidates.valid.shape[-1]
        if truth.valid.shape[-1] == 0 or count == 0:
            return settle(torch.full_like(max_iou, NEGATIVE, dtype=torch.int64), max_iou, candidates.valid)
        parts = by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)
        chosen = [self._nearest(some, candidates) for _, some in parts]
        index, positive, distance = (torch.cat(tables, -2) for tables in zip(*chosen, strict=True))
        return settle(highest_pair(index, positive, -distance, count), max_iou, candidates.valid)

    def _nearest(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """``(*, G, pos_num)`` points of each object, whether they are positive (bool), and their squared distance."""
        sides = (truth.boxes[..., 2:] - truth.boxes[..., :2]).clamp(min=MIN_SIDE).unsqueeze(-2)
        x, y = (center.contiguous() for center in candidates.centers.unsqueeze(-3).unbind(-1))
        object_x, object_y = centers(truth.boxes).unsqueeze(-2).unbind(-1)
        width, height = sides.unbind(-1)
        distance = ((x - object_x) / width).square_().add_(((y - object_y) / height).square_())
        distance = torch.where(self._on_level(sides, candidates), distance, torch.inf)
        index, real = nearest(distance, self.pos_num)
        near = distance.gather(-1, index)
        return index, real & truth.matchable.unsqueeze(-1), torch.where(real, near, 0)

    def _on_level(self, sides: Tensor, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` bool: the point is on the level of the object of ``sides (*, G, 1, 2)``."""
        level = candidates.strides_for("PointAssigner").to(sides.dtype).log2().round()
        wanted = ((sides / self.scale).log2().sum(-1) / 2).trunc()
        apart = level - wanted
        apart = torch.where(candidates.valid.unsqueeze(-2), apart.abs() * 2 + (apart > 0), torch.inf)
        return apart.isfinite() & (apart == apart.amin(-1, keepdim=True))
