"""The end of a sweep: its table, its failures, and an exit code that says whether all went well."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from harness.app.check_table import matrix
from harness.app.job import EXIT_CODES, INTERRUPTED, STOP_FILE
from harness.runs.folder import settle
from harness.runs.records import State, read_json
from harness.runs.schema import TrackerConfig
from harness.training.interrupt import StopRequested, StopSignals


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
        self._folder = Path(config.hydra.sweep.dir)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        try:
            super()._receive(number, frame)
        except StopRequested as request:
            with suppress(OSError):  # for jobs that another launcher runs somewhere else
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / STOP_FILE).write_text(f"{request}\n", encoding="utf-8")
            raise SweepStopped(self._folder, self._config) from None


class SweepEnd(Callback):
    """Prints what every job of a multirun came to. Jobs leave an ``outcome.json`` each: they may run elsewhere."""

    def __init__(self) -> None:
        self._signals: SweepSignals | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Jobs in other processes get a copy, without this process's handlers."""
        return {"_signals": None}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """From here on a signal stops the whole sweep."""
        (Path(config.hydra.sweep.dir) / STOP_FILE).unlink(missing_ok=True)
        self._signals = SweepSignals(config)
        self._signals.__enter__()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Prints the table; see :func:`end_sweep`."""
        try:
            end_sweep(Path(config.hydra.sweep.dir), config)
        finally:
            if self._signals is not None:
                self._signals.__exit__()


def end_sweep(folder: Path, config: DictConfig) -> None:
    """Prints the table of a sweep that ended or was stopped, and what is missing.

    Args:
        folder: of the sweep.
        config: of the sweep or of one of its jobs: its mode, the root of its runs and its tracker are read.

    Raises:
        SystemExit: 1 where a job did not end well, 130 where the sweep was stopped.
    """
    stopped = (folder / STOP_FILE).exists()
    settle(Path(config.run.root) / "runs")
    outcomes = [read_json(path) for path in sorted(folder.glob("*/outcome.json"), key=lambda p: int(p.parent.name))]
    if config.mode == "check":
        if outcomes:
            print(matrix(outcomes))
    else:
        _print_end(outcomes, folder, config, stopped)
    if stopped:
        print("harness: stopped; the same command continues where it was", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    if config.mode != "check" and any(EXIT_CODES[State(outcome["state"])] for outcome in outcomes):
        raise SystemExit(1)


def _print_end(outcomes: Sequence[Mapping[str, Any]], folder: Path, config: DictConfig, stopped: bool) -> None:
    folders = [Path(outcome["folder"]) for outcome in outcomes if outcome["folder"]]
    if folders:
        report_and_mirror(folders, folder, config, mirror=not stopped)
    missing = [outcome for outcome in outcomes if outcome["state"] != State.DONE]
    done = len(outcomes) - len(missing)
    print(f"{done} of {len(outcomes)} runs have a result; {os.fspath(folder)} names them", file=sys.stderr)
    for outcome in missing:
        print(f"{outcome['state']}: {outcome['folder'] or ''} {outcome['reason']}", file=sys.stderr)


def report_and_mirror(runs: list[Path], folder: Path, config: DictConfig, mirror: bool = True) -> None:
    """Prints the sweep's table, writes its report to ``folder/report`` and mirrors that as an artifact, if asked to."""
    from harness.report.build import Options, build_report  # pandas is wanted at the end only
    from harness.report.document import document_of
    from harness.report.evidence import PICTURES, gather
    from harness.report.files import write_report
    from harness.report.folders import ReportError
    from harness.report.parts import shown_parts
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
    print(f"\nOpen {page} in a browser.")
    if mirror:
        settings: TrackerConfig = OmegaConf.to_object(config.tracker)  # type: ignore[assignment]
        log_report(settings, folder / "report", f"report-{folder.name}", *shown_parts(parts))


def report_options(config: DictConfig) -> dict[str, Any]:
    """What an adaptive sweep (``hydra/sweeper=until_settled``) says of its report; nothing for other sweepers."""
    sweeper = OmegaConf.select(config, "hydra.sweeper") or {}
    names = ("baseline", "metric", "margin")
    return {name: sweeper[name] for name in names if sweeper.get(name) is not None} if "first_seeds" in sweeper else {}
