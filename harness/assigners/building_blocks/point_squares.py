"""The square that stands for a point where an assigner compares boxes: a point has no shape of its own."""

from __future__ import annotations

from dataclasses import replace

import torch

from harness.core.structures import Candidates


def with_squares(candidates: Candidates, scale: float) -> Candidates:
    """Points as squares of side ``scale`` strides around them; anchors and proposals as they are.

    An image's candidates are points if all of them are (:attr:`~harness.core.structures.Candidates.is_point`), because
    an anchor may happen to be a square of its stride.

    Args:
        candidates: ``(*, N)``.
        scale: side of the square, in strides.
    """
    points = (candidates.is_point | ~candidates.valid).all(-1, keepdim=True).unsqueeze(-1)
    middle = torch.cat((candidates.centers, candidates.centers), -1)
    squares = middle + (candidates.boxes - middle) * scale
    return replace(candidates, boxes=torch.where(points, squares, candidates.boxes))
