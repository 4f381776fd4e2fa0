"""Which cell of its level's grid a candidate stands for, wherever the grid begins."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.structures import Candidates

STEPS = 64  # of a cell: centers are rounded to these, so that a rounding error never moves one into the next cell


def cells(candidates: Candidates, stride: Tensor) -> tuple[Tensor, Tensor]:
    """The cell whose center is the candidate's: a square of side = stride, half open on its right and bottom.

    YOLO's anchors are centerd at ``(i + 0.5) * stride``, those of torchvision's ``AnchorGenerator`` at ``i * stride``:
    cell ``i`` begins at the image's border there, and half a cell further left here.

    Args:
        candidates: ``(*, N)``.
        stride: ``(N,)`` px.

    Returns:
        ``(*, N, 2)`` whole column and row, and ``(*, N, 2)`` where the grid begins, in cells: 0 for YOLO's anchors,
        -0.5 for torchvision's. The cell holds a point ``p`` if ``floor(p / stride - begin)`` is its column and row.
    """
    place = (candidates.centers / stride.unsqueeze(-1)).mul_(STEPS).round_().div_(STEPS)
    cell = torch.floor(place)
    return cell, place.sub_(cell).sub_(0.5)
