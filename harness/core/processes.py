"""What the processes of one training share, so that one process and many compute the same.

A training on several devices gives every process an equal part of each batch and averages the gradients of all. A loss
that is divided by the positives of the part would then weigh an image by the company it happens to be in. So
normalizers are summed over the processes (:func:`reduce_sum`), and a loss is multiplied by :func:`process_count`, which
the average of the gradients takes away again.

Where nothing else is said, a function below is collective: all processes call it, in the same order. With one process
each returns what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process computes as if there were no other; the others may wait for it meanwhile. Not collective."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def process_count() -> int:
    """How many processes train together; 1 without ``torch.distributed``. Not collective."""
    return distributed.get_world_size() if _together() else 1


def process_rank() -> int:
    """The number of this process among them, from 0. The first one writes the files of a run. Not collective."""
    return distributed.get_rank() if _together() else 0


def reduce_sum(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes, detached; ``value`` itself where there is one process only."""
    if not _together():
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total


def reduce_max(values: list[int]) -> list[int]:
    """The largest of each number over all processes; equally many numbers everywhere."""
    if not _together():
        return values
    largest = torch.tensor(values)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)
    return largest.tolist()


def any_process(value: bool) -> bool:
    """Whether ``value`` is true in any process."""
    return value if not _together() else bool(reduce_max([int(value)])[0])


def wait_for_all() -> None:
    """Returns once every process has come here."""
    any_process(False)


def gather_rows(values: Tensor, fill: float) -> Tensor:
    """The rows of all processes, in the order of the processes; the gradient flows back to each.

    Args:
        values: ``(n, ...)``; ``n`` may differ between processes.
        fill: of the rows that make all parts as long as the longest one.

    Returns:
        ``(processes * m, ...)``, with ``m`` the largest ``n``.
    """
    if not _together():
        return values
    if values.dtype is torch.bool:  # gloo does not carry it
        return gather_rows(values.to(torch.uint8), fill).bool()
    most = reduce_max([len(values)])[0]
    padding = values.new_full((most - len(values), *values.shape[1:]), fill)
    gathered: Tensor = _Gather.apply(torch.cat((values, padding)))
    return gathered


def own_rows(gathered: Tensor, count: int) -> Tensor:
    """The rows of this process, which are ``count``, among those of :func:`gather_rows`."""
    first = len(gathered) // process_count() * process_rank()
    return gathered[first : first + count]


def gather_sum(value: Tensor) -> Tensor:
    """The sum of the scalar ``value`` over all processes; the gradient flows back to each of them."""
    return value if not _together() else gather_rows(value.reshape(1), 0).sum()


def gather_objects(value: T) -> list[T]:
    """``value`` of every process, in their order: plain containers and numbers."""
    if not _together():
        return [value]
    gathered: list[Any] = [None] * process_count()
    distributed.all_gather_object(gathered, value)
    return gathered


def gather_objects_to_first(value: T) -> list[T]:
    """The same for the first process; the others get an empty list."""
    if not _together():
        return [value]
    first = process_rank() == 0
    gathered: list[Any] = [None] * process_count()
    distributed.gather_object(value, gathered if first else None)
    return gathered if first else []


def broadcast_object(value: T) -> T:
    """The ``value`` of the first process: plain containers and numbers."""
    if not _together():
        return value
    sent: list[Any] = [value]
    distributed.broadcast_object_list(sent)
    first: T = sent[0]
    return first


class _Gather(torch.autograd.Function):
    """All parts one after another. A part's gradient is summed over what all processes made of it."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(process_count())]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = reduce_sum(gradients[0])
        return own_rows(total, len(total) // process_count())


def lost_another(error: Exception) -> bool:
    """Whether ``error`` says that another process could not be reached any more. Not collective."""
    if not _together() or not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or any(word in text for word in ("gloo", "connection", "nccl"))


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and not _ALONE.get()
