"""What the launchers of parallel jobs share: packed jobs, the wait for jobs elsewhere, and the record of one that died.

Hydra's launchers give up the whole sweep when one job cannot report back. Here such a job becomes a failed outcome, and
on a signal nothing new begins while the jobs that run save their state.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from harness.app.job import STOP_FILE, Outcome
from harness.app.naming import job_label
from harness.app.sweep import SweepStopped
from harness.app.sweep_record import SweepRecord
from harness.runs.records import State
from harness.training.interrupt import StopSignals

POLL_SECONDS = 0.5
CONTINUES = "the same command continues the run from its last checkpoint"


class Elsewhere(Protocol):
    """Where jobs run: a scheduler or a cluster. Jobs are named by their place in the batch."""

    def submit(self, places: Sequence[int]) -> None:
        """Hands over jobs; does not wait for them."""

    def ended(self) -> Mapping[int, JobReturn | str]:
        """The jobs that ended since the last call. A text says how a job ended that could not report back."""

    def withdraw(self) -> None:
        """Cancels the jobs that have not begun; they are among the next that :meth:`ended` names."""


class Ready(Protocol):
    """A launcher of Hydra after ``setup``."""

    @property
    def config(self) -> DictConfig | None: ...

    @property
    def hydra_context(self) -> HydraContext | None: ...

    @property
    def task_function(self) -> TaskFunction | None: ...


class SweepWait(StopSignals):
    """While entered, the first signal tells all jobs of a sweep to stop, wherever they run, by a file in its folder."""

    def __init__(self, stop_file: Path) -> None:
        super().__init__()
        self._file = stop_file

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            with suppress(OSError):
                self._file.write_text(f"{signal.Signals(number).name}\n", encoding="utf-8")
        super()._receive(number, frame)


def run_elsewhere(
    launcher: Ready, elsewhere: Elsewhere, jobs: Sequence[Sequence[str]], first: int, parallel: int | None
) -> list[JobReturn]:
    """Submits jobs, waits until none runs, and says of each how it ended.

    Args:
        launcher: after ``setup``.
        elsewhere: where the jobs run.
        jobs: the overrides of each job.
        first: the number of the first job in the sweep.
        parallel: how many are submitted at a time; None: all, in one call.

    Raises:
        SweepStopped: a signal came. Jobs that ran have saved, unless a second signal ended the wait.
    """
    assert launcher.config is not None
    folder = Path(str(launcher.config.hydra.sweep.dir))
    folder.mkdir(parents=True, exist_ok=True)
    record = SweepRecord.read(folder)
    waiting, running = list(range(len(jobs))), set[int]()
    returns: dict[int, JobReturn] = {}
    with SweepWait(folder / STOP_FILE) as stop:
        try:
            with stop.deferred():
                while running or (waiting and not stop.requested()):
                    free = len(waiting) if parallel is None else parallel - len(running)
                    begun, waiting = (waiting[:free], waiting[free:]) if not stop.requested() else ([], [])
                    if begun:
                        elsewhere.submit(begun)
                        running.update(begun)
                    if stop.requested():
                        elsewhere.withdraw()
                    for place, answer in elsewhere.ended().items():
                        running.discard(place)
                        if isinstance(answer, str):
                            answer = record_death(launcher, jobs[place], first + place, answer)
                        returns[place] = answer
                        if launcher.config.get("mode") != "check":  # of a check, the table at its end says all
                            _say(record, first + place, jobs[place], answer)
                    time.sleep(POLL_SECONDS if running else 0)
        except KeyboardInterrupt:
            raise SweepStopped(folder, launcher.config) from None
    return [returns[place] for place in range(len(jobs))]


def record_death(launcher: Ready, overrides: Sequence[str], number: int, reason: str) -> JobReturn:
    """Leaves the outcome that a job could not write any more, and returns what Hydra gets instead of its return.

    An outcome that the job left before (it was interrupted, say) stays.
    """
    assert launcher.hydra_context is not None
    assert launcher.config is not None
    config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{number}"
        config.hydra.job.num = number
    folder = Path(str(config.hydra.sweep.dir))
    record = SweepRecord.read(folder)
    if record.outcome(number) is None:
        told = [*filter_overrides(overrides)]
        outcome = Outcome(State.FAILED, reason, overrides=told, number=number, sweep=record.token)
        outcome.write(folder / str(config.hydra.sweep.subdir))
    nothing = JobReturn(status=JobStatus.COMPLETED)
    nothing.return_value = None
    return nothing


def packed(launcher: Ready, jobs: Sequence[Sequence[str]], first: int) -> list[bytes]:
    """Jobs for :func:`run_packed` in another process, which needs nothing but them and the installed packages."""
    import cloudpickle
    from hydra_plugins.hydra_joblib_launcher._core import execute_job

    shared = (launcher.hydra_context, launcher.config, launcher.task_function, Singleton.get_state())
    numbered = enumerate(jobs, start=first)
    return [cloudpickle.dumps((execute_job, (number, list(overrides), *shared))) for number, overrides in numbered]


def run_packed(job: bytes) -> Any:
    """Runs a packed job in this process."""
    import cloudpickle

    function, arguments = cloudpickle.loads(job)
    return function(*arguments)


def _say(record: SweepRecord, number: int, overrides: Sequence[str], answer: JobReturn) -> None:
    """One line for a job that ended: its own output is in a file, or on another machine."""
    total = f"/{record.jobs}" if record.jobs else ""
    value: Any = answer._return_value
    said = f"mAP {value:.3f}" if isinstance(value, float) else "no result"
    label = job_label(list(filter_overrides(overrides)), record.varied)
    print(f"{number + 1}{total} {label}: {said}", file=sys.stderr, flush=True)
