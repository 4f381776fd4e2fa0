"""Pairwise terms of assignment costs.

Everything here is ``(*, G, N)`` and written in place where it can be: on a CPU, memory that is touched for the first
time costs more than the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.boxes import centers

_LOG_FLOOR = -100.0  # torch's binary cross entropy bounds log(p) by it, and so do the references


def of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """``(*, G, N)``: of ``values (*, N, K)`` the column of each object's class, ``labels (*, G)``.

    Copies the values once more unless they are stored column by column, as
    :func:`~harness.assigners.building_blocks.usable_predictions.read_predictions` does.
    """
    *batch, _, classes = values.shape
    rows = values.mT.flatten(0, -2)
    first = torch.arange(rows.shape[0] // max(classes, 1), device=labels.device) * classes
    index = labels.reshape(first.shape[0], -1) + first.unsqueeze(-1)
    return rows.index_select(0, index.flatten()).reshape(*batch, labels.shape[-1], values.shape[-2])


def log_probabilities(scores: Tensor) -> tuple[Tensor, Tensor]:
    """``log p`` and ``log(1 - p)`` of probabilities ``(*, N, K)``, each bounded from below.

    Not ``log1p(-p)``: five times the time, for an absolute error that is below 1e-7 either way.
    """
    return scores.log().clamp_(min=_LOG_FLOOR), (1 - scores).log_().clamp_(min=_LOG_FLOOR)


def label_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """``(*, G, N)`` binary cross entropy of ``scores (*, N, K)`` with each object's one-hot label, ``labels (*, G)``.

    The one-hot form is ``(G, N, K)``. Only the object's own class depends on the object: the sum over all classes as
    background, with that one term exchanged, is the same.
    """
    on, off = log_probabilities(scores)
    everything = off.sum(-1).neg_().unsqueeze(-2)
    return of_labels(off.sub_(on), labels).add_(everything)


def depth_in_boxes(points: Tensor, boxes: Tensor, matchable: Tensor) -> Tensor:
    """``(*, G, N)`` distance of ``points (*, N, 2)`` to the nearest side of ``boxes (*, G, 4)``, px; positive inside.

    Minus infinity for objects that are not ``matchable (*, G)``.
    """
    x, y = _rows(points)
    x1, y1, x2, y2 = boxes.unsqueeze(-2).unbind(-1)
    x1 = x1.masked_fill(~matchable.unsqueeze(-1), torch.inf)
    depth = x - x1
    side = x2 - x
    torch.minimum(depth, side, out=depth)
    torch.minimum(depth, torch.sub(y, y1, out=side), out=depth)
    return torch.minimum(depth, torch.sub(y2, y, out=side), out=depth)


def depth_in_centers(points: Tensor, boxes: Tensor, matchable: Tensor, radius: Tensor) -> Tensor:
    """``(*, G, N)`` how far ``points (*, N, 2)`` are inside a square around each box's center, px; positive inside.

    ``radius (N,)`` is half the side of the square, which depends on the point (a number of its strides).
    Minus infinity for objects that are not ``matchable (*, G)``.
    """
    x, y = _rows(points)
    center_x, center_y = centers(boxes).unsqueeze(-2).unbind(-1)
    center_x = center_x.masked_fill(~matchable.unsqueeze(-1), torch.inf)
    distance = torch.maximum((x - center_x).abs_(), (y - center_y).abs_())
    return distance.neg_().add_(radius)


def center_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """``(*, G, N)`` Euclidean distance of ``points (*, N, 2)`` to the centers of ``boxes (*, G, 4)``, px."""
    x, y = _rows(points)
    center_x, center_y = centers(boxes).unsqueeze(-2).unbind(-1)
    return (x - center_x).square_().add_((y - center_y).square_()).sqrt_()


def _rows(points: Tensor) -> tuple[Tensor, Tensor]:
    """The coordinates as two contiguous ``(*, 1, N)`` rows: strided ones keep the pairwise loops from vectorising."""
    x, y = points.unsqueeze(-3).movedim(-1, 0).contiguous().unbind(0)
    return x, y
