"""The training loop. It reads from top to bottom: evaluate, stop, save, step, log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.processes import any_process, process_count, process_rank, wait_for_all
from harness.data.loading import Batch
from harness.training import checkpoint
from harness.training.interrupt import Interrupted, StopRequested, StopSignals
from harness.training.progress import Bar
from harness.training.state import TrainState
from harness.training.steps import step


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
