"""One job of the command line: runs it, and turns whatever stops it into one line, a status and an exit code."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.app.composition import choices_of
from harness.app.naming import job_label, named_first, run_name
from harness.app.sweep_record import SweepRecord, minutes
from harness.experiment.replaced_parts import reset_replaced_parts
from harness.experiment.settings import GROUPS, settled
from harness.runs import launched
from harness.runs.presets import NONE, PRESETS
from harness.runs.records import State, write_json
from harness.runs.schema import ConfigError, HarnessConfig
from harness.training.interrupt import StopSignals

log = logging.getLogger("harness")

INTERRUPTED = 130  # exit code of a program that a signal stopped
EXIT_CODES = {State.DONE: 0, State.RUNNING: 0, State.FAILED: 1, State.REFUSED: 2, State.INTERRUPTED: INTERRUPTED}
STOP_FILE = "stopped"  # in a sweep's folder: its jobs save and end, and none begins any more


@dataclass(frozen=True)
class Outcome:
    """How one job ended: a file of its own in the folder of a sweep's job."""

    state: State
    reason: str = ""  # where not done
    folder: str | None = None  # of the run, where it got one
    map: float | None = None
    overrides: list[str] = field(default_factory=list)
    number: int = 0
    sweep: str = ""  # the sweep's token: a folder may hold the jobs of an earlier one

    @property
    def exit_code(self) -> int:
        """For the shell."""
        return EXIT_CODES[self.state]

    def write(self, folder: Path) -> None:
        """Leaves the outcome where the end of the sweep finds it; jobs may run in other processes."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"outcome-{self.number}.json", asdict(self))


@dataclass(frozen=True)
class Job:
    """What Hydra says of one job."""

    number: int  # in its sweep, from 0
    overrides: tuple[str, ...]  # its part of the command line
    choices: dict[str, str]  # group -> option
    sources: tuple[str, ...]  # folders of the configuration search path
    sweep: SweepRecord | None  # None: a single run
    folder: Path | None = None  # where its outcome goes, in a sweep
    alone: bool = True  # no other job runs at the same time in this sweep
    moved: bool = False  # hydra.job.chdir: the job runs in a folder of its own

    @classmethod
    def of(cls, hydra: Any) -> Job:
        """The job that is running."""
        sweeping = hydra.mode is not None and hydra.mode.name == "MULTIRUN"
        moved = bool(OmegaConf.select(hydra, "job.chdir"))
        start = Path(hydra.runtime.cwd) if moved else Path()  # where the command was given
        return cls(
            number=int(OmegaConf.select(hydra, "job.num", default=0) or 0) if sweeping else 0,
            overrides=tuple(hydra.overrides.task),
            choices=choices_of(hydra),
            sources=tuple(source.path for source in hydra.runtime.config_sources if source.schema == "file"),
            sweep=SweepRecord.read(start / str(hydra.sweep.dir)) if sweeping else None,
            folder=Path(hydra.runtime.output_dir) if sweeping else None,
            alone=str(hydra.launcher._target_).endswith(".BasicLauncher"),
            moved=moved,
        )

    @property
    def label(self) -> str:
        """``3/27 sampler=ohem seed=1`` in a sweep, else nothing."""
        if self.sweep is None:
            return ""
        total = f"/{self.sweep.jobs}" if self.sweep.jobs else ""
        return f"{self.number + 1}{total} {job_label(self.overrides, self.sweep.varied)}".rstrip()

    @property
    def named_first(self) -> list[str]:
        """The overrides, for the run's name."""
        return named_first(self.overrides, self.sweep.varied if self.sweep else None)

    def check_choices(self) -> None:
        """Refuses several options of one group, which Hydra would lay over each other, and a user's own ``none``.

        Raises:
            ConfigError: with the sweep that was meant, or the file whose name is taken.
        """
        for override in self.overrides:
            key, _, value = override.partition("=")
            if key in (*GROUPS.values(), *self.choices) and value.startswith("["):
                raise ConfigError(f"{override}: one option of the group; several make a sweep: -m {key}={value[1:-1]}")
            own = [Path(source) / key / f"{NONE}.yaml" for source in self.sources] if key in PRESETS else []
            if taken := [file for file in own if value == NONE and file.is_file()]:
                raise ConfigError(f"{override}: this leaves {key} out; the option {taken[0]} needs another name")

    def outcome(
        self, state: State, reason: str = "", folder: str | None = None, accuracy: float | None = None
    ) -> Outcome:
        """How this job ended."""
        token = self.sweep.token if self.sweep else ""
        return Outcome(state, reason, folder, accuracy, list(self.overrides), self.number, token)


def read_outcome(sweep: Path, number: int) -> dict[str, Any]:
    """What job ``number`` of a sweep left with :meth:`Outcome.write`.

    Raises:
        FileNotFoundError: it left nothing.
    """
    outcome = SweepRecord.read(sweep).outcome(number)
    if outcome is None:
        raise FileNotFoundError(f"{sweep}: job {number} left no outcome")
    return outcome


def run_job(config: DictConfig, job: Job) -> Outcome:
    """Runs or checks one composed configuration; does not raise for what a user can cause."""
    with StopSignals(Path(job.sweep.folder) / STOP_FILE if job.sweep else None) as stop:
        if stop.requested():
            return job.outcome(State.INTERRUPTED, "not begun: the sweep was stopped")
        started = time.monotonic()
        if job.sweep is not None:
            job.sweep.note_begin(job.number)
        try:
            return _run(config, job, stop)
        except KeyboardInterrupt as request:
            reason = f"stopped by {str(request) or 'SIGINT'} before it trained; the same command begins it again"
            return _stopped(job, config, State.INTERRUPTED, reason)
        finally:
            if job.sweep is not None:  # of two ends of a job, the first one counts
                job.sweep.note_end(job.number, time.monotonic() - started)


def _run(config: DictConfig, job: Job, stop: StopSignals) -> Outcome:
    started = time.monotonic()
    try:
        job.check_choices()
        reset_replaced_parts(config, job.choices, job.overrides, job.sources)
        settings, _ = settled(config)
    except ConfigError as error:
        return _stopped(job, config, State.REFUSED, str(error))
    _announce(settings, job)
    if job.moved:  # what is said of the run, and kept for the end of the sweep, is read from elsewhere
        config.run.root = str(Path(settings.run.root).absolute())

    with stop.deferred():  # imports torch, which aborts if it is broken off; a refused job has not paid for it
        from harness.app import run_end, runner

    if job.sweep is not None and not job.alone and settings.run.progress == "auto":
        config.run.progress = "off"  # the bars of jobs that run side by side would overdraw each other
    try:
        experiment = runner.check(config, job.sources, choices=job.choices, overrides=job.named_first)
        if settings.mode == "check":
            runner.check_data(experiment)
            if job.sweep is None:
                print("this combination can work")
            return job.outcome(State.DONE)
        finished = runner.run_experiment(experiment, stop)
    except run_end.Stopped as end:
        if launched.rank() > 0 and end.state is State.FAILED and not isinstance(end, run_end.LostProcess):
            print(f"harness: failed: process {launched.rank()}: {listed(end.reason)}", file=sys.__stderr__)
        return _stopped(job, config, end.state, end.reason, end.folder)
    if job.sweep is None:
        log.warning("%s", finished.line)
    else:
        seconds = time.monotonic() - started
        job.sweep.note_end(job.number, None if finished.known else seconds)
        took = f" ({minutes(seconds)}{job.sweep.remaining(job.number)})"
        log.warning("%s: %s%s", job.label, finished.line, took)
    return job.outcome(State.DONE, folder=str(finished.folder), accuracy=finished.map)


def _announce(settings: HarnessConfig, job: Job) -> None:
    """The first line, before torch is imported: what is going to run."""
    if settings.mode == "check":
        if job.sweep is not None and sys.stderr.isatty():
            rest = job.sweep.remaining(job.number)
            print(f"\r\x1b[Kchecking {job.label[:60]}{rest}", end="", file=sys.stderr, flush=True)
        return
    run = settings.run
    if job.sweep is None:
        name = settings.name or run_name(job.choices, job.named_first)
        length = f"{run.iterations} iterations" if run.epochs is None else f"{run.epochs:g} epochs"
        log.info("%s: %s of %d images, seed %d", name, length, run.batch_size, settings.seed)
    elif job.alone and sys.stderr.isatty():
        log.info("%s", job.label)


def _stopped(job: Job, config: DictConfig, state: State, reason: str, folder: str | None = None) -> Outcome:
    if job.sweep is None or config.get("mode") != "check":  # the end of a sweep that only checks says all
        label = f" {job.label}:" if job.sweep else ""
        log.error("harness: %s:%s %s", state, label, listed(reason))
    return job.outcome(state, reason, folder)


def listed(reason: str) -> str:
    """A reason for the terminal: its first line, and further ones (the problems of a data set) indented below it."""
    lines = [" ".join(line.split()) for line in reason.splitlines() if line.strip()]
    return "\n  ".join(lines)
