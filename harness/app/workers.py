"""``run.devices=N``: one run in N processes, started by torch's elastic launch.

The processes save and end together. Each leaves a report of how it ended, and the launching process makes one answer of
them: that of the first process, or, where a process died, one line that names it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from harness.app import runner
from harness.app.naming import folder_of
from harness.app.run_end import Finished, LostProcess, Stopped
from harness.experiment.experiment import Experiment
from harness.runs import launched
from harness.runs.folder import FolderBusyError, RunFolder
from harness.runs.records import State, read_json, write_json
from harness.training.interrupt import SIGNALS, StopRequested, StopSignals

ORPHANS = 60.0  # seconds that a process has to save and end once the launching one is gone
AFTERMATH = 5.0  # seconds that a process left alone waits to be ended, so that the one which died is seen to be first
AGAIN = "the same command continues the run from its last checkpoint"


@dataclass(frozen=True)
class Task:
    """What every process is given: plain enough to be sent to it."""

    config: DictConfig
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    sources: tuple[str, ...]
    stop_file: Path | None
    logging: dict[str, Any] | None  # Hydra's; None where Hydra has not started this process
    reports: Path


@dataclass(frozen=True)
class Report:
    """How one process ended."""

    state: State
    reason: str = ""  # where not done
    folder: str | None = None
    map: float | None = None
    line: str = ""  # what to say where it is done
    known: bool = False  # an earlier process made the result
    left_alone: bool = False  # by another process, which is the cause


def run_in_workers(experiment: Experiment, stop: StopSignals) -> Finished:
    """Runs an experiment in ``run.devices`` processes of this machine.

    Raises:
        Stopped: as :func:`harness.app.runner.run_experiment`, and where a process died.
    """
    count = experiment.settings.run.devices
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        reports = Path(folder)
        task = Task(
            experiment.nodes,
            dict(experiment.choices),
            tuple(experiment.overrides),
            tuple(experiment.sources),
            stop.stop_file,
            _job_logging(),
            reports,
        )
        with PassedOn() as signals, signals.noted():
            exit_codes = _launch(task, count)
        found = {rank: _read(reports / str(rank)) for rank in range(count)}
    answer = _answer({rank: report for rank, report in found.items() if report}, exit_codes, count, signals.asked)
    if answer.state is State.DONE:
        return Finished(Path(answer.folder or ""), answer.map, answer.line, answer.known)
    if answer != found[0]:
        answer = _settled(answer, experiment)
    raise Stopped(answer.state, answer.reason, None if answer.folder is None else Path(answer.folder))


def _job_logging() -> dict[str, Any] | None:
    """Hydra's ``job_logging`` alone: the nodes around it, of a launcher's plug-in, cannot be sent to a process."""
    if not HydraConfig.initialized():
        return None
    node = OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)
    return cast(dict[str, Any], node)


def _launch(task: Task, count: int) -> dict[int, int]:
    """The exit codes of the processes that failed first, by rank; negative numbers are signals."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        start_method="spawn",  # a fork of a process that uses threads may hang
        signals_to_handle="SIGQUIT",  # the others are passed on, so that the processes can save
    )
    with _quiet():
        try:
            elastic_launch(config, work)(task)
        except ChildFailedError as error:
            return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch tells in pages what is one line here, and leaves its handler of a signal behind."""
    before, handled = logging.root.manager.disable, getattr(signal, "SIGQUIT", None)
    handler = None if handled is None else signal.getsignal(handled)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        if handled is not None and threading.current_thread() is threading.main_thread():
            signal.signal(handled, handler)


class PassedOn(StopSignals):
    """While entered, signals are passed on to the processes that were started since then."""

    def __init__(self) -> None:
        super().__init__()
        self._others = set(multiprocessing.active_children())

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, the first signal is noted, for the processes to save; a later one ends them."""
        with suppress(StopRequested), self.deferred():
            yield

    def _receive(self, number: int, frame: FrameType | None) -> None:
        for process in set(multiprocessing.active_children()) - self._others:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        super()._receive(number, frame)


def _answer(reports: Mapping[int, Report], exit_codes: Mapping[int, int], count: int, asked: str | None) -> Report:
    """One answer for all: see the module."""
    first = reports.get(0)
    if asked is not None:
        heard = first is not None and not first.left_alone and first.state in (State.INTERRUPTED, State.DONE)
        return first if heard and first else Report(State.INTERRUPTED, f"stopped by {asked}; {AGAIN}")
    for rank, code in exit_codes.items():
        if code < 0:
            name = signal.Signals(-code).name
            return Report(State.FAILED, f"process {rank} of {count} was killed by {name}; {AGAIN}")
    if first is not None and not first.left_alone:
        return first
    for rank, report in reports.items():
        if not report.left_alone and report.state is not State.DONE:
            return Report(report.state, f"process {rank} of {count}: {report.reason}", report.folder)
    ended = ", ".join(f"{rank} with exit code {code}" for rank, code in exit_codes.items()) or "all without a word"
    return Report(State.FAILED, f"processes of the run ended ({ended}); {AGAIN}")


def _settled(answer: Report, experiment: Experiment) -> Report:
    """Writes into the run folder what ended the run, where the first process could not know it."""
    with suppress(Exception):  # data that cannot be read, a disk that is full: the answer is given all the same
        path = folder_of(experiment, experiment.splits.fingerprint)
        if not path.exists():
            return answer
        with suppress(FolderBusyError), RunFolder(path) as folder:
            status = folder.status
            if status is not None and status.state is not State.DONE:
                folder.set_status(answer.state, answer.reason, status.iteration)
        return Report(answer.state, answer.reason, str(path))
    return answer


def _read(path: Path) -> Report | None:
    if not path.exists():
        return None
    value: dict[str, Any] = read_json(path)
    return Report(**{**value, "state": State(value["state"])})


def work(task: Task) -> None:
    """The life of one of the processes. One that failed ends with an exit code, by which the launch ends the others."""
    rank, parent = launched.rank(), os.getppid()
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()
    launched.silence_followers()
    if task.logging is not None:
        configure_log(OmegaConf.create(task.logging))
    report = _reported(task)
    write_json(task.reports / str(rank), asdict(report))
    if report.left_alone:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        time.sleep(AFTERMATH)
    if report.state is State.FAILED or os.getppid() != parent:  # nobody waits for this process any more
        sys.exit(1)


def _end_without(parent: int) -> None:
    """Stops this process, as SIGTERM does, once the launching one has been killed and cannot do it any more."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHANS)
    os._exit(1)


def _reported(task: Task) -> Report:
    try:
        with StopSignals(task.stop_file) as stop:
            experiment = runner.check(task.config, task.sources, choices=task.choices, overrides=task.overrides)
            finished = runner.run_experiment(experiment, stop)
    except Stopped as end:
        return Report(end.state, end.reason, end.folder, left_alone=isinstance(end, LostProcess))
    except KeyboardInterrupt as request:
        return Report(State.INTERRUPTED, f"stopped by {str(request) or 'SIGINT'} before it trained")
    except Exception as error:  # whatever it is, the launching process says it in one line
        return Report(State.FAILED, f"{type(error).__name__}: {error}")
    folder = str(finished.folder)
    return Report(State.DONE, folder=folder, map=finished.map, line=finished.line, known=finished.known)
