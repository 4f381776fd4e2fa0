"""The training state on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.runs.records import atomic_write


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be continued; the message names the file and the reason."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes ``state`` (tensors and plain containers only)."""
    with atomic_write(path, "wb") as file:
        torch.save(state, file)


def load(path: Path) -> dict[str, Any]:
    """Reads a state onto the CPU.

    Raises:
        CheckpointError: the file is damaged, or holds more than tensors and plain containers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__}); remove it to start afresh") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a training state; remove it to start afresh")
    return state
