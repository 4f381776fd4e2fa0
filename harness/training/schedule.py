"""The learning rate as a function of the iteration: of nothing else, so that a resume continues it exactly."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from harness.runs.schema import ScheduleConfig


def lr_factor(iteration: int, total: int, schedule: ScheduleConfig) -> float:
    """The factor of the base rate at ``iteration`` of ``total``; the first step of a warm-up is already above 0."""
    warmup = round(schedule.warmup_fraction * total)
    if iteration < warmup:
        return float(((iteration + 1) / (warmup + 1)) ** schedule.warmup_power)
    if schedule.kind == "cosine":
        final = schedule.final_factor
        progress = (iteration - warmup) / max(1, total - round(schedule.final_fraction * total) - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if schedule.kind == "multistep":
        passed = sum(iteration >= share * total for share in schedule.milestones)
        return float(schedule.gamma**passed)
    return 1.0


def lr_scheduler(optimizer: Optimizer, total: int, schedule: ScheduleConfig) -> LambdaLR:
    """torch's own scheduler around :func:`lr_factor`."""
    return LambdaLR(optimizer, lambda iteration: lr_factor(iteration, total, schedule))
