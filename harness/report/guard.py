"""What the guard saw before and during the training of runs: the marks that a broken arm carries in every table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report.frame import RunTable
from harness.runs.records import read_json


def guard_marks(table: RunTable, rows: Sequence[int]) -> tuple[str, ...]:
    """The distinct warnings about these runs, as the ends of sentences; none for runs that the guard did not see."""
    records = [record for row in rows if (record := _record(table, row))]
    lines = dict.fromkeys(str(line) for record in records for line in record["warnings"])
    times = [float(record["diverged"]["times"]) for record in records if record.get("diverged")]
    diverged = f"in {len(times)} of {len(rows)} runs the loss rose to up to {max(times, default=0):.0f} times its start"
    return (*(f"before its training, {line}" for line in lines), *([diverged] if times else []))


def _record(table: RunTable, row: int) -> dict[str, Any] | None:
    """A run's ``guard.json``; None where the guard was off, or the run is of an earlier version."""
    try:
        record: dict[str, Any] = read_json(table.paths[row] / "guard.json")
    except (OSError, ValueError):
        return None
    return record if "warnings" in record else None
