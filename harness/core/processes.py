"""Sums over the processes of a job, so that one process and many divide a loss by the same number.

A job on several devices gives every process a part of the batch, and averages the gradients of all of them. A loss that
is divided by the positives of the part would then weigh an image by the company it happens to be in. So normalizers are
summed over the processes (:func:`reduce_sum`), and a loss is multiplied by :func:`process_count`, which the average of
the gradients takes away again.
"""

from __future__ import annotations

from torch import Tensor, distributed


def process_count() -> int:
    """How many processes train together; 1 without ``torch.distributed``."""
    return distributed.get_world_size() if _together() else 1


def reduce_sum(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes, detached; ``value`` itself where there is one process only."""
    if not _together():
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
