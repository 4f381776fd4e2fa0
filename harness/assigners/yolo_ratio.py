"""Anchors of about the object's shape, in the cell of its center and in its nearest neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.grid_cells import cells
from harness.assigners.building_blocks.padding import clean, settle
from harness.core import limits
from harness.core.boxes import centers
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need

BYTES_PER_PAIR = 52


class YOLORatioAssigner:
    """The shape matching of YOLOv5 and YOLOv7.

    Ultralytics' YOLOv5 and Wang et al., "YOLOv7". An anchor matches an object if neither side of one is ``anchor_t``
    times as long as that of the other, or longer. It does so in the cell that holds the object's center and in up to
    two neighbors: left or right, above or below, where the center is less than half a cell away from them.

    So an object takes several anchors and levels, and several objects can match one candidate (:meth:`matches` tells
    all). The assignment keeps one of them: the object of the most similar shape, by the larger of the two side ratios,
    the first among equals. All candidates without a match are negative.

    Args:
        anchor_t: bound of the ratio of sides, above 1.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: if ``anchor_t`` is not above 1; on call, if the candidates carry no strides.
    """

    needs: frozenset[Need] = frozenset({Need.ANCHORS, Need.LEVELS, Need.STRIDES})

    def __init__(self, anchor_t: float = 4.0, memory_bound: int = MEMORY_BOUND) -> None:
        self.anchor_t = limits.above("anchor_t", anchor_t, 1)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` anchors, around the centers of their cells, to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def matches(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` int64: how often the candidate is matched to the object.

        Twice at most: the reference counts an object whose center is exactly on the border of two cells in its own cell
        once more, in the place of the neighbor. The whole relation at once, not bounded in memory.
        """
        truth, candidates = clean(truth, candidates)
        across, down = self._visits(truth, candidates, _grid(candidates))
        times = across.own * (down.own + down.low + down.high) + (across.low + across.high) * down.own
        return (times * (self._ratio(truth, candidates) < self.anchor_t)).long()

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        gt_index = torch.full_like(max_iou, NEGATIVE, dtype=torch.int64)
        best = torch.full_like(max_iou, self.anchor_t)
        grid = _grid(candidates)
        for start, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound):
            across, down = self._visits(some, candidates, grid)
            visited = (across.low + across.high).mul_(down.own).add_((down.own + down.low + down.high).mul_(across.own))
            nearest, index = torch.where(visited > 0, self._ratio(some, candidates), torch.inf).min(-2)
            gt_index = torch.where(nearest < best, index + start, gt_index)
            best = torch.minimum(best, nearest)
        return settle(gt_index, max_iou, candidates.valid)

    def _visits(self, truth: GroundTruth, candidates: Candidates, grid: tuple[Axis, Axis]) -> tuple[Visits, Visits]:
        """Which cells the objects reach, along both axes."""
        stride = candidates.strides_for("YOLORatioAssigner")
        middles = centers(truth.boxes).unsqueeze(-2).unbind(-1)
        across, down = (
            Visits.of((center / stride).sub_(axis.begin), axis.cell, axis.size)
            for center, axis in zip(middles, grid, strict=True)
        )
        return across, down

    def _ratio(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` the larger ratio of sides, of widths or of heights; infinite for padding and crowd regions."""
        x1, y1, x2, y2 = truth.boxes.unsqueeze(-2).unbind(-1)
        left, top, right, bottom = candidates.boxes.unsqueeze(-3).unbind(-1)
        width, height = (x2 - x1) / (right - left), (y2 - y1) / (bottom - top)
        ratio = torch.maximum(torch.maximum(width, 1 / width), torch.maximum(height, 1 / height))
        possible = truth.matchable.unsqueeze(-1) & candidates.valid.unsqueeze(-2)
        return torch.where(possible, ratio, torch.inf)


@dataclass(frozen=True)
class Axis:
    """Along one axis, ``(*, 1, N)`` float each."""

    cell: Tensor  # the candidate's column or row
    begin: Tensor  # where its grid begins, in cells
    size: Tensor  # how many columns or rows the grid has


@dataclass(frozen=True)
class Visits:
    """Along one axis, ``(*, G, N)`` float, 1 where the candidate's cell is the center's own, or a neighbor near to it.

    On a border of cells (and only there) the higher neighbor is the own cell once more. Floats, because on a CPU
    comparing them in place is several times as fast as making masks.
    """

    own: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, position: Tensor, cell: Tensor, size: Tensor) -> Visits:
        """Of centers at ``position (*, G, N)`` cells from where the grid begins; ``cell, size (*, 1, N)``."""
        last = size - 1
        rest = size - position
        return cls(
            own=_inside(position, last).eq_(cell),
            low=_inside(position - 0.5, last).eq_(cell).mul_(_near(position)),
            high=_inside(position + 0.5, last).eq_(cell).mul_(_near(rest)),
        )


def _near(distance: Tensor) -> Tensor:
    """1 where the offset within the cell is below 0.5 and the cell is not the outermost one, else 0.

    Args:
        distance: ``(*, G, N)`` of the object's center from a side of the grid, in cells.
    """
    return (distance - distance.floor()).lt_(0.5).mul_(distance.gt(1))


def _inside(position: Tensor, last: Tensor) -> Tensor:
    """The cell that holds the position; a position outside of the grid belongs to the cell at the border."""
    return torch.minimum(position.trunc().clamp_(min=0), last)


def _grid(candidates: Candidates) -> tuple[Axis, Axis]:
    """Each candidate's cell in the grid of its level, along x and along y."""
    cell, begin = cells(candidates, candidates.strides_for("YOLORatioAssigner"))
    parts = (part.unsqueeze(-3).unbind(-1) for part in (cell, begin, _grid_size(candidates, cell)))
    across, down = (Axis(*(number.contiguous() for number in axis)) for axis in zip(*parts, strict=True))
    return across, down


def _grid_size(candidates: Candidates, cell: Tensor) -> Tensor:
    """``(*, N, 2)`` columns and rows of the level of each candidate, whose column and row are ``cell (*, N, 2)``."""
    size = torch.zeros_like(cell)
    if cell.shape[-2] == 0:
        return size
    for level in range(candidates.num_levels):
        here = candidates.valid if candidates.level is None else candidates.valid & (candidates.level == level)
        here = here.unsqueeze(-1)
        size = torch.where(here, cell.masked_fill(~here, -1).amax(-2, keepdim=True) + 1, size)
    return size
