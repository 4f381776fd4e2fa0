"""The learning rate as a function of the iteration: of nothing else, so that a resume continues it exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def factor(
    iteration: int,
    total: int,
    *,
    kind: str,
    warmup_fraction: float,
    final_factor: float,
    milestones: Sequence[float],
    gamma: float,
) -> float:
    """The factor of the base rate at ``iteration`` of ``total``; the first step of a warm-up is already above 0."""
    warmup = round(warmup_fraction * total)
    if iteration < warmup:
        return (iteration + 1) / (warmup + 1)
    if kind == "cosine":
        progress = (iteration - warmup) / max(1, total - warmup)
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if kind == "multistep":
        return gamma ** sum(iteration >= share * total for share in milestones)
    return 1.0


def learning_rate(optimizer: Optimizer, total: int, **options: object) -> LambdaLR:
    """torch's own scheduler around :func:`factor`."""
    return LambdaLR(optimizer, lambda iteration: factor(iteration, total, **options))  # type: ignore[arg-type]
