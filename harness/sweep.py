"""The end of a sweep: its table, its failures, and an exit code that says whether all went well."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from harness.check import matrix
from harness.records import State, read_json


class SweepEnd(Callback):
    """Prints what every job of a multirun came to. Jobs leave an ``outcome.json`` each: they may run elsewhere."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises SystemExit(1) where a job did not end well; the table is printed first."""
        folder = Path(config.hydra.sweep.dir)
        outcomes = [read_json(path) for path in sorted(folder.glob("*/outcome.json"), key=lambda p: int(p.parent.name))]
        if config.mode == "check":
            print(matrix(outcomes))
            return
        runs = [outcome["folder"] for outcome in outcomes if outcome["state"] == State.DONE]
        if runs:
            from harness.report.summary import print_summary  # pandas is wanted at the end only

            print_summary([Path(run) for run in runs])
        bad = [outcome for outcome in outcomes if outcome["state"] != State.DONE]
        print(f"{len(runs)} of {len(outcomes)} runs have a result; {os.fspath(folder)} names them", file=sys.stderr)
        for outcome in bad:
            print(f"{outcome['state']}: {outcome['folder'] or ''} {outcome['reason']}", file=sys.stderr)
        if bad:
            raise SystemExit(1)
