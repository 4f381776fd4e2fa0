"""What a run's guard saw before the training: the marks that a broken arm carries in every table."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.frame import RunTable
from harness.runs.records import read_json


def guard_marks(table: RunTable, rows: Sequence[int]) -> tuple[str, ...]:
    """The distinct warnings of the guard in these runs; runs without a record of it have none."""
    lines: list[str] = []
    for row in rows:
        try:
            lines += map(str, read_json(table.paths[row] / "guard.json")["warnings"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the guard was off, or the run is of an earlier version
    return tuple(dict.fromkeys(lines))
