"""Learning curves: what ``metrics.jsonl`` says, mean and range over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.report.reading import UnreadableError, read_text
from harness.runs.metrics_log import has_checksums, row_of

_MOST_ITERATIONS = 10**15  # more is damage


@dataclass(frozen=True)
class Curve:
    """One logged quantity of one method. NaN where no run logged it."""

    iterations: NDArray[np.int64]  # (T,)
    mean: NDArray[np.float64]  # (T,)
    low: NDArray[np.float64]  # (T,) least of the seeds
    high: NDArray[np.float64]  # (T,)
    runs: int


def curves_of(
    paths: Sequence[Path], ends: Sequence[Mapping[str, float]] | None = None
) -> tuple[dict[str, Curve], list[str]]:
    """Quantity -> its curve over these runs, at the iterations that any of them logged; and what could not be read.

    ``ends[i]`` is what the finished run i came to (with its ``iteration``): the log holds evaluations in between only.
    """
    notes: list[str] = []
    series: dict[str, list[dict[int, float]]] = {}
    for i, path in enumerate(paths):
        mine: dict[str, dict[int, float]] = {}
        rows, damaged = _rows(path)
        if damaged:
            notes.append(f"{path.name}: {damaged} damaged lines of metrics.jsonl are left out.")
        logged = {name for row in rows for name in row}
        end = {} if ends is None else ends[i]
        for row in [*rows, {name: value for name, value in end.items() if name in logged}]:
            for name, value in row.items():
                if name != "iteration" and _is_number(value):
                    mine.setdefault(name, {})[int(row["iteration"])] = float(value)
        for name, points in mine.items():
            series.setdefault(name, []).append(points)
    return {name: _curve(runs) for name, runs in series.items()}, notes


def _rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of ``metrics.jsonl`` with an iteration, and the number of lines that are damaged.

    The last line of a run that was killed may be cut in half; it is not counted as damaged.
    """
    try:
        lines = read_text(path, "metrics.jsonl").split("\n")
    except UnreadableError:
        return [], 0
    rows, damaged = [], 0
    checked = has_checksums(lines)
    for i, line in enumerate(lines):
        row = row_of(line, checked)
        if row is None:
            damaged += i < len(lines) - 1
            continue
        if type(at := row.get("iteration")) is int and 0 <= at < _MOST_ITERATIONS:
            rows.append(row)
        else:
            damaged += 1
    return rows, damaged


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _curve(runs: Sequence[dict[int, float]]) -> Curve:
    iterations = np.array(sorted({iteration for points in runs for iteration in points}), np.int64)
    values = np.array([[points.get(int(at), np.nan) for at in iterations] for points in runs])
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen.any(0), np.where(seen, values, 0).sum(0) / count, np.nan)
    low, high = np.where(seen, values, np.inf).min(0), np.where(seen, values, -np.inf).max(0)
    return Curve(iterations, mean, np.where(seen.any(0), low, np.nan), np.where(seen.any(0), high, np.nan), len(runs))
