"""The start and the end of a sweep: what will run; its table, its failures and an exit code that tells of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from harness.app.arguments import rewritten
from harness.app.arms import SEED
from harness.app.check_table import matrix
from harness.app.job import EXIT_CODES, INTERRUPTED, STOP_FILE
from harness.app.naming import job_label
from harness.app.sweep_record import FILE, SweepRecord, count_jobs
from harness.app.time_left import FILE as PROGRESS
from harness.runs import launched
from harness.runs.folder import settle
from harness.runs.records import State
from harness.runs.schema import TrackerConfig
from harness.training.interrupt import StopRequested, StopSignals

OWN_SWEEPERS = ("hydra._internal.", "hydra_plugins.harness.")


class SweepStopped(KeyboardInterrupt):
    """A signal ended a sweep; carries what is needed to print its table."""

    def __init__(self, folder: Path, config: DictConfig) -> None:
        super().__init__(f"the sweep {folder} was stopped")
        self.folder = folder
        self.config = config


class SweepSignals(StopSignals):
    """While entered, a signal between two jobs ends the sweep. Jobs and :mod:`harness.app.parallel` have their own."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__()
        self._config = config
        self._folder = Path(config.hydra.sweep.dir).absolute()  # hydra.job.chdir leaves the folder of the command

    def _receive(self, number: int, frame: FrameType | None) -> None:
        try:
            super()._receive(number, frame)
        except StopRequested as request:
            with suppress(OSError):  # for jobs that another launcher runs somewhere else
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / STOP_FILE).write_text(f"{request}\n", encoding="utf-8")
            raise SweepStopped(self._folder, self._config) from None


_begun: ContextVar[DictConfig | None] = ContextVar("begun", default=None)  # of the sweep that this process runs


class SweepEnd(Callback):
    """Says what a multirun will do, and at its end what every job came to."""

    def __init__(self) -> None:
        self._signals: SweepSignals | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Jobs in other processes get a copy, without this process's handlers."""
        return {"_signals": None}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the sweep's record, which its jobs read. From here on a signal stops the whole sweep."""
        if launched.processes() > 1:
            line = "a launcher (WORLD_SIZE) started several processes of one run, not a sweep; use -m run.devices=N"
            print(f"harness: refused: {line}", file=sys.stderr)
            raise SystemExit(2)
        _rewrite_params(config)
        folder = Path(str(config.hydra.sweep.dir))
        jobs = jobs_of(config)
        try:
            # The seeds of an adaptive sweep are its own; what a sweeper of others varies is not all known here.
            adaptive = [*_varied(config), SEED] if "first_seeds" in config.hydra.sweeper else None
            SweepRecord.begin(folder, jobs, adaptive)
            (folder / STOP_FILE).unlink(missing_ok=True)
        except OSError as error:
            print(f"harness: failed: {error.filename or folder}: {error.strerror}", file=sys.stderr)
            raise SystemExit(1) from None
        if config.mode != "check" and jobs is not None:  # another sweeper says itself what it does
            count = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
            values = " ".join(f"{key}={value}" for key, value in _varied(config).items()) or "one combination"
            print(f"{count}: {values}; outcomes in {folder}", file=sys.stderr, flush=True)
        _begun.set(config)
        self._signals = SweepSignals(config)
        self._signals.__enter__()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the table; see :func:`end_sweep`."""
        _begun.set(None)
        try:
            end_sweep(Path(str(config.hydra.sweep.dir)), config)
        finally:
            if self._signals is not None:
                self._signals.__exit__()


def foreign_sweeper() -> str | None:
    """The class of the running sweep's sweeper, where it is neither Hydra's own nor the harness's."""
    config = _begun.get()
    name = str(config.hydra.sweeper._target_) if config is not None else ""
    return name.rpartition(".")[2] if name and not name.startswith(OWN_SWEEPERS) else None


def end_broken_sweep() -> bool:
    """Prints the table of a sweep whose sweeper or launcher raised, and its failures.

    Returns:
        whether there was one that had ended a job; without any, the error says all.
    """
    config = _begun.get()
    if config is None:
        return False
    folder = Path(str(config.hydra.sweep.dir))
    if not SweepRecord.read(folder).outcomes():
        return False
    _begun.set(None)
    with suppress(SystemExit):  # the caller ends with the code of the error
        end_sweep(folder, config)
    return True


def end_sweep(folder: Path, config: DictConfig) -> None:
    """Prints the table of a sweep that ended or was stopped, and what is missing.

    Args:
        folder: of the sweep.
        config: of the sweep or of one of its jobs: its mode, the root of its runs and its tracker are read.

    Raises:
        SystemExit: 1 where a job did not end well or the table could not be made, 130 where the sweep was stopped.
    """
    stopped = (folder / STOP_FILE).exists()
    settle(Path(config.run.root).expanduser() / "runs")
    record = SweepRecord.read(folder)
    outcomes = record.outcomes()
    bad = any(EXIT_CODES[State(outcome["state"])] for outcome in outcomes)
    if config.mode == "check":
        _print_matrix(outcomes, folder)
        bad = False
    else:
        bad = not _table_made(outcomes, folder, config, stopped) or bad
        _print_missing(outcomes, record)
    if stopped:
        print("harness: stopped; the same command continues where it was", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    if bad:
        raise SystemExit(1)


def _table_made(outcomes: Sequence[Mapping[str, Any]], folder: Path, config: DictConfig, stopped: bool) -> bool:
    """Whether the table could be made; whatever breaks in it is said, and the failures are listed after it."""
    folders = list(dict.fromkeys(Path(outcome["folder"]) for outcome in outcomes if outcome["folder"]))
    try:
        if folders:
            report_and_mirror(folders, folder, config, mirror=not stopped)
    except Exception as error:
        print(f"harness: failed: the sweep's table: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True


def _print_missing(outcomes: Sequence[Mapping[str, Any]], record: SweepRecord) -> None:
    missing = [outcome for outcome in outcomes if outcome["state"] != State.DONE]
    total = max(record.jobs or 0, len(outcomes))
    print(f"{len(outcomes) - len(missing)} of {total} runs have a result", file=sys.stderr)
    for outcome in missing:
        label = job_label(outcome["overrides"], record.varied)
        print(f"{outcome['state']}: {label}: {' '.join(outcome['reason'].split())}", file=sys.stderr)


def _rewrite_params(config: DictConfig) -> None:
    """Lets a sweep file write its values as the command line does: ``recipe: null,ohem`` under ``params``."""
    params = config.hydra.sweeper.get("params") or {}
    written = [f"{key}={'null' if value is None else value}" for key, value in params.items()]
    with open_dict(config):
        for key, override in zip(list(params), rewritten(["-m", *written])[1:], strict=True):
            if override.partition("=")[2] != str(params[key]):
                params[key] = override.partition("=")[2]


def jobs_of(config: DictConfig) -> list[list[str]] | None:
    """The overrides of every job; None where another sweeper than Hydra's basic one decides them."""
    if not str(config.hydra.sweeper._target_).endswith("BasicSweeper"):
        return None
    params = dict(config.hydra.sweeper.get("params") or {})
    overrides = [*(f"{key!s}={value}" for key, value in params.items()), *config.hydra.overrides.task]
    try:
        return count_jobs(overrides, GlobalHydra.instance().config_loader())
    except HydraException:
        return None  # the sweeper refuses it in a moment, with its reason


def report_and_mirror(runs: list[Path], folder: Path, config: DictConfig, mirror: bool = True) -> None:
    """Prints the sweep's table, writes its report to ``folder/report`` and mirrors that as an artifact, if asked to."""
    from harness.report.build import build_report  # pandas is wanted at the end only
    from harness.report.document import document_of
    from harness.report.evidence import PICTURES, gather
    from harness.report.files import write_report
    from harness.report.folders import ReportError
    from harness.report.parts import shown_parts
    from harness.report.rules import Options
    from harness.report.views.terminal import render_terminal
    from harness.tracking import log_report

    try:
        report = build_report(runs, Options(**report_options(config)))
    except ReportError as error:
        print(f"no table: {error}")
        return
    print(render_terminal(document_of(report)))
    parts = document_of(report, gather(report, PICTURES))
    page, *_ = write_report(report, parts, folder / "report")
    print(f"\nOpen {page} in a browser. More seeds: the same command with further seed=...")
    if mirror:
        settings: TrackerConfig = OmegaConf.to_object(config.tracker)  # type: ignore[assignment]
        log_report(settings, folder / "report", f"report-{folder.name}", *shown_parts(parts))


def report_options(config: DictConfig) -> dict[str, Any]:
    """What an adaptive sweep (``hydra/sweeper=until_settled``) says of its report; nothing for other sweepers."""
    sweeper = OmegaConf.select(config, "hydra.sweeper") or {}
    names = ("baseline", "metric", "margin", "alpha", "goal")
    return {name: sweeper[name] for name in names if sweeper.get(name) is not None} if "first_seeds" in sweeper else {}


def _varied(config: DictConfig) -> dict[str, str]:
    """Swept key -> its values as they are written."""
    params = config.hydra.sweeper.get("params") or {}
    varied: dict[str, str] = {str(key): str(value) for key, value in params.items()}
    for override in config.hydra.overrides.task:
        key, _, value = str(override).partition("=")
        if key in varied or "," in value or "(" in value:
            varied[key] = value
    return varied


def _print_matrix(outcomes: list[dict[str, Any]], folder: Path) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(matrix(outcomes, shutil.get_terminal_size((100, 24)).columns))
    _remove(folder)


def _remove(folder: Path) -> None:
    """A check leaves nothing: its outcomes and the folders that it made go, others stay."""
    own = (folder / name for name in ("multirun.yaml", FILE, PROGRESS, STOP_FILE))
    for path in [*folder.rglob("outcome-*.json"), *own]:
        path.unlink(missing_ok=True)
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
    for path in [*below, folder, folder.parent, folder.parent.parent]:
        with suppress(OSError):  # something else is in it
            path.rmdir()
