"""Tensors on disk: written whole or not at all, with a checksum, and read without executing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.runs.integrity import check_zip, seal_zip
from harness.runs.records import atomic_write


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued; the message names the file and the reason."""


class NonFiniteWeightsError(RuntimeError):
    """The weights hold NaN or infinite values; the message names the first tensor."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Writes ``state`` (tensors and plain containers only).

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_write(path, "w+b") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # after a failed write, torch only says that its position is unexpected
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        seal_zip(file)


def load(path: Path) -> dict[str, Any]:
    """Reads a state onto the CPU.

    Raises:
        CheckpointError: the file may not be read, is damaged, or holds more than tensors and plain containers.
    """
    again = "remove it to start afresh"
    try:
        check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:  # the file may be whole: nothing is said of removing it
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{error}; {again}") from error
    except Exception as error:  # torch raises several classes of its own for what it cannot read
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__}); {again}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a training state; {again}")
    return state


def require_finite(states: Mapping[str, Mapping[str, Any]], when: str) -> None:
    """Refuses weights that are not finite; waits for the device once.

    Args:
        states: state dicts by a name for the message, such as ``model``.
        when: for the message, such as ``at iteration 40``.

    Raises:
        NonFiniteWeightsError: the message names the first tensor with NaN or an infinite value.
    """
    named = [(f"{prefix}.{name}", tensor) for prefix, state in states.items() for name, tensor in _floats(state)]
    if not named:
        return
    finite = torch.stack([tensor.isfinite().all() for _, tensor in named]).tolist()
    if not all(finite):
        name = named[finite.index(False)][0]
        raise NonFiniteWeightsError(
            f"the weights are not finite {when}: {name} holds NaN or infinite values (a lower optimizer.lr, or "
            "run.clip_norm, may help)"
        )


def _floats(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in state.items() if isinstance(value, Tensor) and value.is_floating_point())
