"""Points inside an object, near its center, on the level that suits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.boxes import area
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need

BYTES_PER_PAIR = 32
FLAVOURS = ("torchvision", "mmdet")


class FCOSAssigner:
    """Per-point assignment of FCOS.

    Tian et al., "FCOS", sections 3.1 and 3.2, with the center sampling of its journal version. A point is positive for
    an object if it is strictly inside its box, less than ``center_sampling_radius`` strides from its center in x and
    in y, and if the farthest side of the box is at a distance that the point's level regresses. Of several objects the
    smallest takes the point. All other points are negative. Of a candidate only its center, level and stride count, so
    that anchors are as good as points.

    With a radius just above 0.5 this is "center only" and with 1.5 (3 x 3 points) "multi positives" of YOLOX, table 2.

    The flavours differ in two things. Ranges exclude their bounds in ``torchvision`` and include them in ``mmdet``. And
    ``torchvision`` compares areas as ``1e8 - area``, which in float32 has steps of 8 px^2: of objects closer than that
    the first takes the point, in ``mmdet`` only of those exactly equal.

    Args:
        center_sampling_radius: in strides; None for the whole box.
        regress_ranges: a (low, high) in px for every level; by default 4 to 8 strides, from 0 on the first level and
            without end on the last one.
        flavour: ``torchvision`` or ``mmdet``.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range; on call, if the number of ranges is not that of the levels, or
            if the candidates carry no strides.
    """

    needs: frozenset[Need] = frozenset({Need.LEVELS, Need.STRIDES})

    def __init__(
        self,
        center_sampling_radius: float | None = 1.5,
        regress_ranges: Sequence[Sequence[float]] | None = None,
        flavour: str = "torchvision",
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        radius = limits.optional(limits.at_least, "center_sampling_radius", center_sampling_radius, 0)
        ranges = None if regress_ranges is None else [tuple(float(bound) for bound in pair) for pair in regress_ranges]
        rising = ranges is None or all(len(pair) == 2 and pair[0] < pair[1] for pair in ranges)
        limits.require(rising, "regress_ranges", regress_ranges, "pairs [low, high] with low < high, or null")
        self.center_sampling_radius = radius
        self.regress_ranges = ranges
        self.flavour = limits.one_of("flavour", flavour, FLAVOURS)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` points to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        size = area(truth.boxes)
        preference = 1e8 - size if self.flavour == "torchvision" else -size
        # The object's place in the order of preference decides, the first of equals before the others. Comparing floats
        # in place and multiplying is several times as fast on a CPU as masks are.
        order = preference.argsort(descending=True, stable=True, dim=-1)
        rank = (order.shape[-1] - order.argsort(-1)).to(max_iou.dtype)
        best = torch.zeros_like(max_iou)
        for start, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound):
            weight = rank[..., start : start + some.valid.shape[-1]] * some.matchable
            best = torch.maximum(best, self._admits(some, candidates).mul_(weight.unsqueeze(-1)).amax(-2))
        return settle(of_rank(order, best.long()), max_iou, candidates.valid)

    def _admits(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` float, 1 where the point may be positive for the object, before objects compete for it."""
        stride = candidates.strides_for("FCOSAssigner").to(candidates.boxes.dtype)
        x, y = (center.contiguous() for center in candidates.centers.unsqueeze(-3).unbind(-1))
        x1, y1, x2, y2 = truth.boxes.unsqueeze(-2).unbind(-1)
        side = x - x1
        depth, farthest = side, side.clone()
        for side in (y - y1, x2 - x, y2 - y):
            farthest = torch.maximum(farthest, side, out=farthest)
            depth = torch.minimum(depth, side, out=depth)
        if self.center_sampling_radius is not None:
            reach = stride * self.center_sampling_radius
            away = torch.maximum((x - (x1 + x2) / 2).abs_(), (y - (y1 + y2) / 2).abs_())
            depth = torch.minimum(depth, reach - away)
        low, high = self._ranges(candidates, stride)
        margin = torch.minimum(farthest - low, high - farthest)
        fits = margin.gt_(0) if self.flavour == "torchvision" else margin.ge_(0)
        return depth.gt_(0).mul_(fits)

    def _ranges(self, candidates: Candidates, stride: Tensor) -> tuple[Tensor, Tensor]:
        """``(N,)`` lowest and highest distance that each point regresses, px."""
        last = candidates.num_levels - 1
        level = torch.zeros_like(stride, dtype=torch.int64) if candidates.level is None else candidates.level
        if self.regress_ranges is None:
            low = (stride * 4).masked_fill(level == 0, 0)
            return low, (stride * 8).masked_fill(level == last, torch.inf)
        if len(self.regress_ranges) != last + 1:
            raise ValueError(f"regress_ranges has {len(self.regress_ranges)} ranges for {last + 1} levels")
        low, high = torch.zeros_like(stride), torch.zeros_like(stride)
        for number, (start, end) in enumerate(self.regress_ranges):
            low, high = torch.where(level == number, start, low), torch.where(level == number, end, high)
        return low, high


def of_rank(order: Tensor, rank: Tensor) -> Tensor:
    """``(*, N)`` the object of each ``rank (*, N)``, NEGATIVE for 0; ``order (*, G)`` lists them from rank G down."""
    objects = order.shape[-1]
    if objects == 0:
        return torch.full_like(rank, NEGATIVE)
    return torch.where(rank > 0, order.gather(-1, (objects - rank).clamp(max=objects - 1)), NEGATIVE)
