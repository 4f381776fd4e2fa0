"""The training loop. It reads from top to bottom; what one step touches is one object that can be saved."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from harness.core.processes import any_process, process_count, process_rank, wait_for_all
from harness.data.loading import Batch, to_device
from harness.runs.schema import RunConfig
from harness.training import checkpoint
from harness.training.devices import autocast
from harness.training.gradients import averaged
from harness.training.interrupt import Interrupted, StopRequested, StopSignals
from harness.training.progress import Bar
from harness.training.selection import BestWeights
from harness.training.streams import Streams

log = logging.getLogger("harness")


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
    evaluated_at: int = 0  # the last iteration that was evaluated on the way
    best: BestWeights | None = None  # where run.select is best
    seconds: float = 0.0
    sessions: int = 1

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is evaluated and kept: the moving average of the weights where there is one."""
        model: nn.Module = self.model if self.ema is None else self.ema.module
        return model

    def require_finite(self) -> None:
        """Raises NonFiniteLossError or NonFiniteWeightsError where a loss or the weights are not finite."""
        self.window.check()
        states = {"model": self.model.state_dict()} | ({} if self.ema is None else {"ema": self.ema.state_dict()})
        checkpoint.require_finite(states, f"at iteration {self.iteration}")

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain containers."""
        return {
            "iteration": self.iteration,
            "evaluated_at": self.evaluated_at,
            "seconds": self.seconds,
            "sessions": self.sessions,
            "threads": torch.get_num_threads(),
            "model": self.model.state_dict(),
            "criteria": self.model.criteria_state_dict(),  # type: ignore[operator]
            "optimizer": self.optimizer.state_dict(),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"},
            "streams": self.streams.state_dict(),
            "window": self.window.state_dict(),
            "best": None if self.best is None else self.best.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.saved_parts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        On a CPU another number of threads would add in another order and give other bits. Where ``run.threads`` is
        null, the number of the first session is therefore kept, on whatever number of cores the run continues.
        """
        threads = torch.get_num_threads()
        if self.device.type == "cpu" and state["threads"] != threads:
            log.warning("continues with %d threads, as it began; this process would use %d", state["threads"], threads)
            torch.set_num_threads(state["threads"])
        self.model.load_state_dict(state["model"])
        self.model.load_criteria_state_dict(state["criteria"])  # type: ignore[operator]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict({**self.schedule.state_dict(), **state["schedule"]})
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        if self.best is not None:
            self.best.load_state_dict(state["best"])
        for name, part in self.saved_parts.items():
            part.load_state_dict(state["parts"][name])
        self.streams.load_state_dict(state["streams"])
        self.window.load_state_dict(state["window"], self.device)
        self.iteration = state["iteration"]
        self.evaluated_at = state["evaluated_at"]
        self.seconds = state["seconds"]
        self.sessions = state["sessions"] + 1


@dataclass(frozen=True)
class Hooks:
    """What the runner wants to know of."""

    on_log: Callable[[int, dict[str, float]], None]  # iteration, mean losses since the last call and the rate
    on_eval: Callable[[int], None]  # every run.eval_every iterations
    on_save: Callable[[int], None]  # after a checkpoint is on disk


def train(
    training: TrainState,
    batches: Iterable[Batch],
    path: Path,
    hooks: Hooks,
    *,
    until: int | None = None,
    stop: StopSignals | None = None,
) -> None:
    """Trains to ``run.iterations`` or to the iteration ``until``, if that comes first, saving to ``path``.

    Args:
        training: the state; continued, not restarted.
        batches: from the first batch that is still to be trained on.
        path: of the checkpoint.
        hooks: called between steps.
        until: where to pause, with the state saved; ``None``: nowhere.
        stop: what may ask to stop; ``None``: nothing.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
        NonFiniteLossError: the message holds the iteration and the parts; nothing of the bad state is saved.
        NonFiniteWeightsError: the same for the weights.
    """
    config = training.config
    stop = stop or StopSignals()
    saved_at, saved_iteration = time.monotonic(), training.iteration

    def save() -> None:
        nonlocal saved_at, saved_iteration
        training.require_finite()
        state = training.state_dict()  # by every process: it sums what each of them has counted
        if process_rank() == 0:
            checkpoint.save(path, state)
        wait_for_all()  # a launcher may end all processes as soon as one of them has ended
        saved_at, saved_iteration = time.monotonic(), training.iteration
        hooks.on_save(training.iteration)

    bar = Bar("train", config.iterations, training.iteration, config.progress)
    source: Iterator[Batch] = iter(batches)
    end = config.iterations if until is None else min(until, config.iterations)
    with stop.deferred(), bar:
        while True:
            with suppress(StopRequested):  # an evaluation changes no state; it is made again on continuing
                _evaluate_if_due(training, hooks, stop)
            if name := _asked_to_stop(stop):
                save()
                raise Interrupted(f"stopped by {name} at iteration {training.iteration}")
            if training.iteration >= end:
                break
            if training.iteration > saved_iteration and _save_is_due(training, saved_at):
                save()
            started = time.monotonic()
            try:
                with _interruptible(stop):  # loading processes may be stuck
                    batch = next(source)
            except StopRequested:
                continue
            means = _logged_step(training, batch, started)
            bar.step()
            if means:
                rate = float(training.optimizer.param_groups[0]["lr"])
                hooks.on_log(training.iteration, {**means, "lr": rate})
                bar.show(means)
        save()


def _logged_step(training: TrainState, batch: Batch, started: float) -> dict[str, float]:
    """One step, of which ``started`` is the time; returns the losses since the last logged step if this one is."""
    config, window = training.config, training.window
    losses = step(training, batch)
    training.iteration += 1
    window.add(training.iteration, losses)
    if training.device.type == "cpu":
        window.check()  # costs nothing there; elsewhere it would wait for the device in every step
    logging = training.iteration % config.log_every == 0 or training.iteration == config.iterations
    means = window.close() if logging else {}
    training.seconds += time.monotonic() - started
    return means


def _evaluate_if_due(training: TrainState, hooks: Hooks, stop: StopSignals) -> None:
    """Evaluates every ``run.eval_every`` iterations, but for the end, which is evaluated by the run itself."""
    every, now = training.config.eval_every, training.iteration
    due = every and 0 < now < training.config.iterations and now % every == 0 and training.evaluated_at < now
    if due and not _asked_to_stop(stop):
        training.require_finite()
        with _interruptible(stop):
            hooks.on_eval(now)
        training.evaluated_at = now


def _save_is_due(training: TrainState, saved_at: float) -> bool:
    config = training.config
    at_this = config.checkpoint_iterations and training.iteration % config.checkpoint_iterations == 0
    return bool(at_this) or any_process(time.monotonic() - saved_at > 60 * config.checkpoint_minutes)


def _asked_to_stop(stop: StopSignals) -> str | None:
    """The name of what asked this process, or another one, to stop."""
    name = stop.requested()
    return (name or "a signal to another process") if any_process(name is not None) else None


def _interruptible(stop: StopSignals) -> AbstractContextManager[None]:
    """Where a signal need not wait; it does where other processes would then wait for this one."""
    return stop.at_once() if process_count() == 1 else nullcontext()


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
