"""What all contracts share: one kind of failure, and walking over the tensors of dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.core.structures import GroundTruth

T = TypeVar("T")

SHARED = ("level", "stride")  # (N,) of all images of a batch


class ContractError(AssertionError):
    """A piece breaks a promise of its contract; the message says which one, and in what situation."""


def demand(holds: bool | Tensor, promise: str) -> None:
    """Raises :class:`ContractError` with ``promise`` unless it ``holds``."""
    if not bool(holds):
        raise ContractError(promise)


def demand_object(piece: object, kind: type, what: str) -> None:
    """Demands an object of ``kind``: not its class, and nothing else; ``what`` says what such an object is."""
    if isinstance(piece, type):
        raise ContractError(f"an object is checked, not its class: {piece.__name__}(...)")
    demand(isinstance(piece, kind), f"{what}; this is a {type(piece).__name__}")


def over_tensors(value: T, change: Callable[[Tensor, bool], Tensor], per_candidate: bool = True) -> T:
    """A copy with every tensor of the batch changed.

    ``change`` is told whether the tensor's first own axis counts candidates.
    """
    if isinstance(value, Tensor):
        return change(value, per_candidate)  # type: ignore[return-value]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    per_candidate = per_candidate and not isinstance(value, GroundTruth)
    names = [field.name for field in fields(value) if field.name not in SHARED]
    changes: dict[str, Any] = {name: over_tensors(getattr(value, name), change, per_candidate) for name in names}
    return replace(value, **changes)


def tensors(value: object) -> Iterator[Tensor]:
    """Every tensor in a dataclass, in order."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


def equal(one: object, other: object) -> bool:
    """Whether two results have equal tensors, bit for bit."""
    first, second = list(tensors(one)), list(tensors(other))
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@contextmanager
def left_alone(*inputs: object) -> Iterator[None]:
    """Demands that neither the tensors of ``inputs`` nor torch's global random stream change."""
    before = [tensor.clone() for value in inputs for tensor in tensors(value)]
    state = torch.random.get_rng_state()
    yield
    after = [tensor for value in inputs for tensor in tensors(value)]
    same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    demand(same, "its inputs have to stay as they were, but it changed one in place")
    demand(torch.equal(torch.random.get_rng_state(), state), "it must not draw from torch's global random stream")


@contextmanager
def broken_as(promise: str) -> Iterator[None]:
    """Turns any other error of the piece into a :class:`ContractError` that says what was asked of it."""
    try:
        yield
    except ContractError as error:
        raise ContractError(f"{promise}: {error}") from None
    except Exception as error:
        raise ContractError(f"{promise}: {type(error).__name__}: {error}") from error
