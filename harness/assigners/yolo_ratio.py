"""Anchors of about the object's shape, in the cell of its centre and in its nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.chunking import MEMORY_BOUND, by_images, check_memory_bound
from harness.assigners.overlap import overlaps
from harness.assigners.padding import clean, settle
from harness.types import NEGATIVE, Assignment, Candidates, GroundTruth, Need


class YOLORatioAssigner:
    """The shape matching of YOLOv5 and YOLOv7.

    Ultralytics' YOLOv5 and Wang et al., "YOLOv7". An anchor matches an object if neither side of one is ``anchor_t``
    times as long as that of the other, or longer. It does so in the cell that holds the object's centre and in up to
    two neighbours: left or right, above or below, where the centre is less than half a cell away from them.

    So an object takes several anchors and levels, and several objects can match one candidate (:meth:`matches` tells
    all). The assignment keeps one of them: the object of the most similar shape, by the larger of the two side ratios,
    the first among equals. All candidates without a match are negative.

    Args:
        anchor_t: bound of the ratio of sides, above 1.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: if ``anchor_t`` is not above 1; on call, if the candidates carry no strides.
    """

    needs: frozenset[Need] = frozenset({Need.LEVELS, Need.STRIDES})

    def __init__(self, anchor_t: float = 4.0, memory_bound: int = MEMORY_BOUND) -> None:
        if not anchor_t > 1:
            raise ValueError(f"anchor_t must be above 1, got {anchor_t}")
        self.anchor_t = anchor_t
        self.memory_bound = check_memory_bound(memory_bound)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` anchors, around the centres of their cells, to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=64, memory_bound=self.memory_bound)

    def matches(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` int64: how often the candidate is matched to the object.

        Twice at most: the reference counts an object whose centre is exactly on the border of two cells in its own cell
        once more, in the place of the neighbour. The whole relation at once, not bounded in memory.
        """
        return self._relation(*clean(truth, candidates))[0]

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        if truth.valid.shape[-1] == 0 or candidates.valid.shape[-1] == 0:
            return settle(torch.full_like(max_iou, NEGATIVE, dtype=torch.int64), max_iou, candidates.valid)
        times, ratio = self._relation(truth, candidates)
        best, index = torch.where(times > 0, ratio, torch.inf).min(-2)
        return settle(torch.where(best < torch.inf, index, NEGATIVE), max_iou, candidates.valid)

    def _relation(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, G, N)`` how often the pair matches, and the larger ratio of its sides."""
        if candidates.stride is None:
            raise ValueError("yolo_ratio needs the strides of the candidates, but they carry none")
        cell = (candidates.centers / candidates.stride.unsqueeze(-1)).floor()
        center = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
        size = _grid_size(cell, candidates)
        own, near = [], []
        for axis in range(2):
            position = center[..., axis].unsqueeze(-1) / candidates.stride
            here, beside = _hits(position, cell[..., axis].unsqueeze(-2), size[..., axis].unsqueeze(-2))
            own.append(here)
            near.append(beside)
        times = own[0].long() * own[1] + near[0] * own[1] + own[0] * near[1]
        ratio = _side_ratio(truth.boxes, candidates.boxes)
        possible = truth.matchable.unsqueeze(-1) & candidates.valid.unsqueeze(-2) & (ratio < self.anchor_t)
        return times * possible, ratio


def _hits(position: Tensor, cell: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Along one axis, ``(*, G, N)``: whether the cell is the centre's own, and how often it is a neighbour to match.

    ``position`` is the centre in cells, ``size`` the number of cells. Neighbours beyond the border do not count.
    """
    rest = size - position
    last = size - 1
    before = (position.remainder(1) < 0.5) & (position > 1)
    behind = (rest.remainder(1) < 0.5) & (rest > 1)
    own = _bounded(position, last) == cell
    low = before & (_bounded(position - 0.5, last) == cell)
    high = behind & (_bounded(position + 0.5, last) == cell)
    return own, low.long() + high


def _bounded(position: Tensor, last: Tensor) -> Tensor:
    return torch.minimum(position.trunc().clamp_(min=0), last)


def _grid_size(cell: Tensor, candidates: Candidates) -> Tensor:
    """``(*, N, 2)`` columns and rows of the level of each candidate."""
    if candidates.level is None:
        return (cell.masked_fill(~candidates.valid.unsqueeze(-1), -1).amax(-2, keepdim=True) + 1).expand(cell.shape)
    size = torch.zeros_like(cell)
    for level in range(candidates.num_levels):
        here = ((candidates.level == level) & candidates.valid).unsqueeze(-1)
        size = torch.where(here, cell.masked_fill(~here, -1).amax(-2, keepdim=True) + 1, size)
    return size


def _side_ratio(objects: Tensor, anchors: Tensor) -> Tensor:
    """``(*, G, N)`` the longer side over the shorter one, of widths or of heights, whichever is larger."""
    ours = (objects[..., 2:] - objects[..., :2]).unsqueeze(-2)
    theirs = (anchors[..., 2:] - anchors[..., :2]).unsqueeze(-3)
    width, height = (ours / theirs).unbind(-1)
    return torch.maximum(torch.maximum(width, 1 / width), torch.maximum(height, 1 / height))
