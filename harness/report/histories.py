"""Learning curves: what ``metrics.jsonl`` says, mean and range over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.runs.folder import MetricsLog


@dataclass(frozen=True)
class Curve:
    """One logged quantity of one method. NaN where no run logged it."""

    iterations: NDArray[np.int64]  # (T,)
    mean: NDArray[np.float64]  # (T,)
    low: NDArray[np.float64]  # (T,) least of the seeds
    high: NDArray[np.float64]  # (T,)
    runs: int


def curves_of(paths: Sequence[Path], ends: Sequence[Mapping[str, float]] | None = None) -> dict[str, Curve]:
    """Quantity -> its curve over these runs, at the iterations that any of them logged.

    ``ends[i]`` is what the finished run i came to (with its ``iteration``): the log holds evaluations in between only.
    """
    series: dict[str, list[dict[int, float]]] = {}
    for i, path in enumerate(paths):
        mine: dict[str, dict[int, float]] = {}
        rows = _rows(path)
        logged = {name for row in rows for name in row}
        end = {} if ends is None else ends[i]
        for row in [*rows, {name: value for name, value in end.items() if name in logged}]:
            for name, value in row.items():
                if name != "iteration" and isinstance(value, (int, float)):
                    mine.setdefault(name, {})[int(row["iteration"])] = float(value)
        for name, points in mine.items():
            series.setdefault(name, []).append(points)
    return {name: _curve(runs) for name, runs in series.items()}


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = MetricsLog.rows(path / "metrics.jsonl")
    except (OSError, UnicodeDecodeError):
        return []
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("iteration"), int)]


def _curve(runs: Sequence[dict[int, float]]) -> Curve:
    iterations = np.array(sorted({iteration for points in runs for iteration in points}), np.int64)
    values = np.array([[points.get(int(at), np.nan) for at in iterations] for points in runs])
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen.any(0), np.where(seen, values, 0).sum(0) / count, np.nan)
    low, high = np.where(seen, values, np.inf).min(0), np.where(seen, values, -np.inf).max(0)
    return Curve(iterations, mean, np.where(seen.any(0), low, np.nan), np.where(seen.any(0), high, np.nan), len(runs))
