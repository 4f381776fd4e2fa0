"""Bipartite matching at the least total cost, on the host (scipy)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.core.structures import NEGATIVE


def match_at_least_cost(cost: Tensor, objects: Tensor, partners: Tensor, times: int = 1) -> Tensor:
    """``(*, N)`` int64: the object of each candidate, NEGATIVE where it has none.

    Every object takes ``times`` candidates, or fewer, at least one, where there are fewer than ``times`` candidates for
    each object. The costs of a batch go to the host in one copy, for which the host waits.

    Args:
        cost: ``(*, G, N)``, finite; solved in float64.
        objects: ``(*, G)`` bool, the objects that take part.
        partners: ``(*, N)`` bool, the candidates that take part.
        times: candidates of an object, at least 1.
    """
    images = math.prod(partners.shape[:-1])
    host = (value.reshape(images, *value.shape[partners.dim() - 1 :]) for value in (cost, objects, partners))
    gt_index = np.full((images, partners.shape[-1]), NEGATIVE, dtype=np.int64)
    for image, inputs in enumerate(zip(*(value.cpu().numpy() for value in host), strict=True)):
        _solve(gt_index[image], *inputs, times=times)
    return torch.from_numpy(gt_index).to(partners.device).reshape(partners.shape)


def _solve(
    gt_index: NDArray[np.int64],
    cost: NDArray[np.float32],
    objects: NDArray[np.bool_],
    partners: NDArray[np.bool_],
    *,
    times: int,
) -> None:
    """Writes the matching of least ``cost (G, N)`` among those that take part to ``gt_index (N,)``."""
    rows, columns = np.flatnonzero(partners), np.flatnonzero(objects)
    if len(columns) == 0:
        return
    times = min(times, max(1, len(rows) // len(columns)))
    # Candidates by objects, as the references put it: equal costs are then settled the same way.
    row, column = linear_sum_assignment(cost[np.ix_(columns, rows)].T.repeat(times, axis=1))
    gt_index[rows[row]] = columns[column // times]
