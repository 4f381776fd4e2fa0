"""The training loop. It reads from top to bottom; what one step touches is one object that can be saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from harness.data.loading import Batch, to_device
from harness.runs.schema import RunConfig
from harness.training import checkpoint
from harness.training.checkpoint import CheckpointError
from harness.training.devices import autocast
from harness.training.interrupt import Interrupted, InterruptGuard
from harness.training.progress import TrainingBar
from harness.training.streams import Streams


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message holds its parts."""


class LossWindow:
    """The losses since the last logged step, kept on the device until they are read together."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, dict[str, Tensor]]] = []
        self._checked = 0

    def add(self, iteration: int, losses: dict[str, Tensor]) -> None:
        """Keeps the parts of one step."""
        self._steps.append((iteration, losses))

    def check(self) -> None:
        """Raises NonFiniteLossError for the first step that was not finite."""
        fresh = self._steps[self._checked :]
        if fresh:
            finite = torch.stack([torch.stack(list(parts.values())).isfinite().all() for _, parts in fresh]).tolist()
            for ok, (iteration, parts) in zip(finite, fresh, strict=True):
                if not ok:
                    shown = ", ".join(f"{name}={float(value):g}" for name, value in parts.items())
                    raise NonFiniteLossError(f"the loss at iteration {iteration} is not finite: {shown}")
        self._checked = len(self._steps)

    def close(self) -> dict[str, float]:
        """Checks, returns the means and starts anew."""
        self.check()
        names = list(self._steps[0][1])
        table = torch.stack([torch.stack([parts[name].float() for name in names]) for _, parts in self._steps])
        self._steps.clear()
        self._checked = 0
        return dict(zip(names, table.mean(0).tolist(), strict=True))

    def state_dict(self) -> list[tuple[int, dict[str, Tensor]]]:
        """The open window."""
        return list(self._steps)

    def load_state_dict(self, state: list[tuple[int, dict[str, Tensor]]], device: torch.device) -> None:
        """Continues the open window on ``device``, where its next steps will be; what was saved had been checked."""
        self._steps = [
            (iteration, {name: loss.to(device) for name, loss in parts.items()}) for iteration, parts in state
        ]
        self._checked = len(state)


class Stateful(Protocol):
    """What a checkpoint holds beside the training itself."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class TrainState:
    """Everything that a step reads and writes."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    streams: Streams
    device: torch.device
    config: RunConfig
    ema: AveragedModel | None = None
    saved_parts: dict[str, Stateful] = field(default_factory=dict)  # by name: telemetry, ...
    window: LossWindow = field(default_factory=LossWindow)
    iteration: int = 0
    seconds: float = 0.0
    sessions: int = 1

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain containers."""
        return {
            "iteration": self.iteration,
            "seconds": self.seconds,
            "sessions": self.sessions,
            "threads": torch.get_num_threads(),
            "model": self.model.state_dict(),
            "criteria": self.model.criteria_state_dict(),  # type: ignore[operator]
            "optimizer": self.optimizer.state_dict(),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"},
            "streams": self.streams.state_dict(),
            "window": self.window.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.saved_parts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        Raises:
            CheckpointError: it was taken with another number of CPU threads, which gives other bits.
        """
        threads = torch.get_num_threads()
        if self.device.type == "cpu" and state["threads"] != threads:
            raise CheckpointError(
                f"the checkpoint was trained with run.threads={state['threads']}, this process uses {threads}: "
                f"sums in another order give other bits; continue with run.threads={state['threads']}"
            )
        self.model.load_state_dict(state["model"])
        self.model.load_criteria_state_dict(state["criteria"])  # type: ignore[operator]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict({**self.schedule.state_dict(), **state["schedule"]})
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        for name, part in self.saved_parts.items():
            part.load_state_dict(state["parts"][name])
        self.streams.load_state_dict(state["streams"])
        self.window.load_state_dict(state["window"], self.device)
        self.iteration = state["iteration"]
        self.seconds = state["seconds"]
        self.sessions = state["sessions"] + 1


@dataclass(frozen=True)
class Hooks:
    """What the runner wants to know of."""

    on_log: Callable[[int, dict[str, float]], None]  # iteration, mean losses since the last call and the rate
    on_eval: Callable[[int], None]  # every run.eval_every iterations
    on_save: Callable[[int], None]  # after a checkpoint is on disk


def train(
    training: TrainState, batches: Iterable[Batch], path: Path, hooks: Hooks, *, until: int | None = None
) -> None:
    """Trains to ``run.iterations`` or to the iteration ``until``, if that comes first, saving to ``path``.

    Args:
        training: the state; continued, not restarted.
        batches: from the first batch that is still to be trained on.
        path: of the checkpoint.
        hooks: called between steps.
        until: where to pause, with the state saved; ``None``: nowhere.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
        NonFiniteLossError: the message holds the iteration and the parts; nothing of the bad state is saved.
    """
    config = training.config
    window = training.window
    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        window.check()
        checkpoint.save(path, training.state_dict())
        saved_at = time.monotonic()
        hooks.on_save(training.iteration)

    bar = TrainingBar(config.iterations, training.iteration, config.progress)
    source: Iterator[Batch] = iter(batches)
    stop = config.iterations if until is None else min(until, config.iterations)
    with InterruptGuard() as guard, bar:
        while training.iteration < stop:
            started = time.monotonic()
            losses = step(training, next(source))
            training.iteration += 1
            window.add(training.iteration, losses)
            if training.device.type == "cpu":
                window.check()  # costs nothing there; elsewhere it would wait for the device in every step
            logging = training.iteration % config.log_every == 0 or training.iteration == config.iterations
            means = window.close() if logging else {}
            training.seconds += time.monotonic() - started

            bar.step()
            if logging:
                rate = float(training.optimizer.param_groups[0]["lr"])
                hooks.on_log(training.iteration, {**means, "lr": rate})
                bar.show(means)
            if guard.asked:
                save()
                raise Interrupted(f"stopped by {guard.asked} at iteration {training.iteration}")
            on_the_way = training.iteration < config.iterations  # the end is evaluated by the run itself
            if config.eval_every and training.iteration % config.eval_every == 0 and on_the_way:
                hooks.on_eval(training.iteration)
            due = time.monotonic() - saved_at > 60 * config.checkpoint_minutes
            if due or (config.checkpoint_iterations and training.iteration % config.checkpoint_iterations == 0):
                save()
        save()


def step(training: TrainState, batch: Batch) -> dict[str, Tensor]:
    """One optimiser step; returns the detached parts of the loss."""
    model, config, device = training.model, training.config, training.device
    images, targets = to_device(batch, device)
    model.train()
    model.set_progress(training.iteration / config.iterations)  # type: ignore[operator]
    with autocast(device, config.precision):
        losses: dict[str, Tensor] = model(images, targets)
    total = torch.stack([loss.float() for loss in losses.values()]).sum()
    training.optimizer.zero_grad(set_to_none=True)
    total.backward()
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm, foreach=True)
    training.optimizer.step()
    training.schedule.step()
    if training.ema is not None:
        training.ema.update_parameters(model)
    return {name: loss.detach() for name, loss in losses.items()}
