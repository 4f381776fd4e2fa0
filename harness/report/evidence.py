"""The heavy files of the runs that figures are drawn from: logs, histograms, curves of precision, predictions.

They are read once, for the methods that are drawn. Tables and verdicts do not need them, so that these can be shown
before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.build import ContextReport, Report
from harness.report.comparison import Row
from harness.report.figures.style import NUM_METHODS, method_colors
from harness.report.frame import RunTable
from harness.report.histories import Curve, curves_of
from harness.report.looking import Look, look_at
from harness.report.method_styles import with_names
from harness.report.reading import UnreadableError, read_json_object
from harness.report.sampling import Sampling, sampling_of
from harness.report.variance import Variance, variance_of

PICTURES = 6  # images on which two methods differ, shown unless another number is asked for
RUNS_READ = 5  # of a method, for histograms and curves of precision: 1,000 runs must not take minutes
_EVALUATED = ("map", "map50", "map75")
Point = tuple[float, float]


@dataclass(frozen=True)
class Precision:
    """Curves of precision and calibration, means over seeds; one entry per drawn method."""

    recall: tuple[float, ...]
    curves: dict[float, list[NDArray[np.float64] | None]]  # by IoU
    bins: list[list[Point]]  # (mean score, share that is right) of the filled bins of the score


@dataclass(frozen=True)
class Evidence:
    """What is drawn of one context. Lists have one entry per drawn method."""

    rows: list[Row]
    styles: Mapping[str, int]  # of every method of the report, and of the shadow samplers
    curves: list[dict[str, Curve]]
    samplings: list[Sampling | None]
    precision: Precision
    variance: Variance | None  # None where predictions were not asked for
    look: Look | None  # predictions of two methods on the same images; None where they were not asked for
    notes: tuple[str, ...]

    @property
    def drawn(self) -> dict[str, int]:
        """Name and style of each drawn method, in the order of ``rows``."""
        return {row.label: self.styles[row.label] for row in self.rows}

    @property
    def toggles(self) -> dict[str, str]:
        """Name and color of each drawn method, for the buttons that hide it."""
        return method_colors(self.drawn)


def gather(report: Report, pictures: int) -> list[Evidence]:
    """The evidence of every context of a report.

    Args:
        report: the runs, compared.
        pictures: how many images on which two methods differ are shown; 0 reads no predictions and no images.
    """
    found: list[Evidence] = []
    styles: Mapping[str, int] = report.styles
    for one in report.contexts:
        found.append(_gather(report, one, styles, pictures))
        styles = found[-1].styles
    return found


def drawn_rows(one: ContextReport) -> list[Row]:
    """The baselines and the best methods, as many as there are colors."""
    return one.section.rows[:NUM_METHODS]


def _gather(report: Report, one: ContextReport, styles: Mapping[str, int], pictures: int) -> Evidence:
    table, rows = report.table, drawn_rows(one)
    notes: list[str] = []
    if len(one.section.rows) > len(rows):
        notes.append(
            f"Figures show {len(rows)} of {len(one.section.rows)} methods: the baselines and those with the best "
            f"{one.section.metric.name}. The differences show up to 40, the tables all."
        )
    curves = [_curves(table, row, notes) for row in rows]
    samplings = [_sampling(table, row, notes) for row in rows]
    shadows = [
        name for found in samplings if found is not None for stage in found.stages for name in found.shadows(stage)
    ]
    styles = with_names(styles, [*(row.label for row in rows), *shadows])
    precision = _precision(table, rows, notes)
    variance = variance_of(table, one.section) if pictures else None
    look = look_at(table, one.section, pictures) if pictures else None
    return Evidence(rows, styles, curves, samplings, precision, variance, look, tuple(dict.fromkeys(notes)))


def _curves(table: RunTable, row: Row, notes: list[str]) -> dict[str, Curve]:
    runs = row.method.done
    found, unread = curves_of([table.paths[run] for run in runs], [_end(table, run) for run in runs])
    notes += unread
    return {name: curve for name, curve in found.items() if name != "lr"}


def _end(table: RunTable, run: int) -> dict[str, float]:
    """What the run came to: the log holds the evaluations in between only."""
    reached = table.settings[run].get("run.iterations")
    if not isinstance(reached, int):
        return {}
    return {"iteration": reached} | {
        f"eval/{name}": float(table.frame[name][run]) for name in _EVALUATED if name in table.frame
    }


def _sampling(table: RunTable, row: Row, notes: list[str]) -> Sampling | None:
    runs = row.method.done[:RUNS_READ]
    found, unread = sampling_of([table.paths[run] for run in runs])
    notes += unread
    if found is not None and len(row.method.done) > len(runs):
        notes.append(f"Histograms and curves of precision are those of at most {RUNS_READ} runs of each method.")
    return found


def _precision(table: RunTable, rows: Sequence[Row], notes: list[str]) -> Precision:
    recall: tuple[float, ...] = ()
    found: dict[float, dict[int, list[Sequence[float]]]] = {}
    bins: list[list[Point]] = []
    for i, row in enumerate(rows):
        reliability: dict[float, list[tuple[float, float, float]]] = {}
        for run in row.method.done[:RUNS_READ]:
            try:
                at, precision, calibration = _evaluated(table, run)
            except (UnreadableError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
                notes.append(f"{table.paths[run].name}: the curves of precision in result.json cannot be read.")
                continue
            recall = at or recall
            for iou_thr, values in precision.items():
                if len(values) == len(recall):
                    found.setdefault(iou_thr, {}).setdefault(i, []).append(values)
            for lower, told in calibration:
                reliability.setdefault(lower, []).append(told)
        bins.append([_weighted(reliability[lower]) for lower in sorted(reliability)])
    curves = {
        iou_thr: [np.mean(of[i], 0) if i in of else None for i in range(len(rows))] for iou_thr, of in found.items()
    }
    return Precision(recall, curves, bins)


def _evaluated(
    table: RunTable, run: int
) -> tuple[tuple[float, ...], dict[float, list[float]], list[tuple[float, tuple[float, float, float]]]]:
    """Recalls, precision by IoU (mean over classes), and per filled bin its lower end and (count, score, precision)."""
    metrics = read_json_object(table.paths[run], "result.json")["metrics"]
    drawn = metrics.get("pr_curves") or {"recall": [], "curves": []}
    recall = tuple(_share(value) for value in drawn["recall"])
    means = [one for one in drawn["curves"] if one["category"] == "mean"]
    precision = {_share(one["iou"]): [_share(value) for value in one["precision"]] for one in means}
    if any(len(values) != len(recall) for values in precision.values()):
        raise ValueError("as many precisions as recalls are needed")
    bins = [one for one in (metrics.get("calibration") or {"bins": []})["bins"] if one["count"]]
    told = [
        (_share(one["lower"]), (float(one["count"]), _share(one["confidence"]), _share(one["precision"])))
        for one in bins
    ]
    return recall, precision, told


def _share(value: float) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is no share")
    return float(value)


def _weighted(rows: Sequence[tuple[float, float, float]]) -> Point:
    counts = np.array([row[0] for row in rows])
    return (
        float(np.average([row[1] for row in rows], weights=counts)),
        float(np.average([row[2] for row in rows], weights=counts)),
    )
