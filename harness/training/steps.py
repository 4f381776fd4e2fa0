"""One step of the training: forward, backward, optimizer, schedule, moving average."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.data.loading import Batch, to_device
from harness.training.devices import autocast
from harness.training.gradients import averaged
from harness.training.state import TrainState


def require_finite_boxes(batch: Batch) -> None:
    """Raises ValueError where a box of a batch on the CPU is not finite; the message names the image."""
    for target in batch[1]:
        if not target["boxes"].isfinite().all():
            raise ValueError(f"a box of image {int(target['image_id'])} is not finite: {target['boxes'].tolist()}")


def step(training: TrainState, batch: Batch) -> dict[str, Tensor]:
    """One optimizer step; returns the detached parts of the loss.

    With ``run.accumulate`` the batch is cut into that many equal parts, whose gradients are averaged. Losses are
    normalized, batch statistics taken and batch-wide samplers applied within a part, as in a batch of that size.
    ``batch`` is this process's share of the whole one; gradients and losses are averaged over the processes.
    """
    model, config, device = training.model, training.config, training.device
    require_finite_boxes(batch)
    model.train()
    model.set_progress(training.iteration / config.iterations)  # type: ignore[operator]
    training.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for part in _parts(batch, config.accumulate):
        images, targets = to_device(part, device)
        with autocast(device, config.precision):
            losses: dict[str, Tensor] = model(images, targets)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        (total / config.accumulate).backward()
        sums = {name: loss.detach() + sums.get(name, 0) for name, loss in losses.items()}
    sums = averaged(model.parameters(), sums)
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm, foreach=True)
    training.optimizer.step()
    training.schedule.step()
    if training.ema is not None:
        training.ema.update_parameters(model)
    return {name: value / config.accumulate for name, value in sums.items()}


def _parts(batch: Batch, count: int) -> Iterator[Batch]:
    size = len(batch[0]) // count
    for start in range(0, len(batch[0]), size):
        yield batch[0][start : start + size], batch[1][start : start + size]
