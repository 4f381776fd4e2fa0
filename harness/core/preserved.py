"""A pass through modules that leaves no trace in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def preserved(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Puts back, at the end, what passes through ``modules`` change.

    These are their buffers (BatchNorm's running statistics), whether they are in training mode, and torch's global
    random streams on the CPU and on ``device`` (dropout).
    """
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for part, mode in modes:
            part.training = mode
