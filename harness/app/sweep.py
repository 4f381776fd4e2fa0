"""The end of a sweep: its table, its failures, and an exit code that says whether all went well."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from harness.app.check_table import matrix
from harness.runs.records import State, read_json
from harness.runs.schema import TrackerConfig


class SweepEnd(Callback):
    """Prints what every job of a multirun came to. Jobs leave an ``outcome.json`` each: they may run elsewhere."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises SystemExit(1) where a job did not end well; the table is printed first."""
        folder = Path(config.hydra.sweep.dir)
        outcomes = [read_json(path) for path in sorted(folder.glob("*/outcome.json"), key=lambda p: int(p.parent.name))]
        if config.mode == "check":
            print(matrix(outcomes))
            return
        folders = [Path(outcome["folder"]) for outcome in outcomes if outcome["folder"]]
        if folders:
            report_and_mirror(folders, folder, config)
        bad = [outcome for outcome in outcomes if outcome["state"] != State.DONE]
        done = len(outcomes) - len(bad)
        print(f"{done} of {len(outcomes)} runs have a result; {os.fspath(folder)} names them", file=sys.stderr)
        for outcome in bad:
            print(f"{outcome['state']}: {outcome['folder'] or ''} {outcome['reason']}", file=sys.stderr)
        if bad:
            raise SystemExit(1)


def report_and_mirror(runs: list[Path], folder: Path, config: DictConfig) -> None:
    """Prints the sweep's table, writes its report to ``folder/report`` and mirrors that as an artifact."""
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
    settings: TrackerConfig = OmegaConf.to_object(config.tracker)  # type: ignore[assignment]
    log_report(settings, folder / "report", f"report-{folder.name}", *shown_parts(parts))


def report_options(config: DictConfig) -> dict[str, Any]:
    """What an adaptive sweep (``hydra/sweeper=until_settled``) says of its report; nothing for other sweepers."""
    sweeper = OmegaConf.select(config, "hydra.sweeper") or {}
    names = ("baseline", "metric", "margin")
    return {name: sweeper[name] for name in names if sweeper.get(name) is not None} if "first_seeds" in sweeper else {}
