"""One context's methods in numbers: mean and spread over seeds, and the difference from the baseline with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.baselines import baselines_of
from harness.report.contexts import Context
from harness.report.frame import RunTable
from harness.report.guard import guard_marks
from harness.report.methods import Method, Methods, methods_of
from harness.report.metric import Metric
from harness.statistics import Comparison, compare
from harness.statistics.verdicts import ALPHA, MARGIN

UNEVEN = 0.25  # training times of one method that differ by more say that the machine was shared
NOTHING = 0.0005  # a mean metric below this is shown as 0.000: nothing was learned
COSTS = ("train_seconds", "images_per_second", "peak_memory_mb")
Scores = dict[int | str, float]  # seed -> metric


@dataclass(frozen=True)
class Row:
    """One method of the main table."""

    method: Method
    scores: Scores
    mean: float  # over seeds; NaN without any
    sd: float  # between seeds; NaN below two
    costs: Mapping[str, float]  # mean over runs
    comparison: Comparison | None  # None for a baseline and where nothing was compared
    marks: tuple[str, ...] = ()  # what the guard warned of before the training, one line each

    @property
    def label(self) -> str:
        """The method's name."""
        return self.method.label


@dataclass(frozen=True)
class Section:
    """All that is compared in one context, baselines first, then by mean, the best on top."""

    context: Context
    methods: Methods
    metric: Metric
    rows: list[Row]
    baselines: tuple[str, ...]
    test: str  # anytime | t | sign_flip
    margin: float
    notes: tuple[str, ...]

    def row(self, label: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.label == label)

    @property
    def compared(self) -> list[tuple[Row, Comparison]]:
        """The rows that share at least one seed with their baseline."""
        return [(row, row.comparison) for row in self.rows if row.comparison is not None and row.comparison.n]

    @property
    def nothing_learned(self) -> bool:
        """Whether every method scores 0.000, so that there is nothing to compare."""
        means = [row.mean for row in self.rows if np.isfinite(row.mean)]
        return self.metric.is_accuracy and bool(means) and max(means) < NOTHING


def section_of(
    table: RunTable,
    context: Context,
    metric: Metric,
    group_by: Sequence[str] | None = None,
    baseline: Mapping[str, str] | None = None,
    test: str = "anytime",
    margin: float = MARGIN,
) -> Section:
    """Compares the methods of one context, paired by seed; all of its comparisons are corrected together."""
    found = methods_of(table, context, group_by)
    scores = {method.label: _scores(table, method, metric) for method in found.methods}
    partners = baselines_of(table, found.methods, baseline)
    compared = compare(
        scores,
        partners,
        alpha=ALPHA,
        margin=margin if metric.is_accuracy else 0.0,
        test=test,
        higher_is_better=metric.higher_is_better,
    )
    by_name = {one.name: one for one in compared}
    sign = 1 if metric.higher_is_better else -1
    rows = [_row(table, method, scores[method.label], by_name.get(method.label)) for method in found.methods]
    heads = tuple(dict.fromkeys(partners.values()))
    if not heads and len(rows) == 1:
        heads = (rows[0].label,)
    rows.sort(key=lambda row: (row.label not in heads, -sign * np.nan_to_num(row.mean, nan=-sign * np.inf)))
    notes = _notes(table, found, metric, scores)
    return Section(context, found, metric, rows, heads, test, margin if metric.is_accuracy else 0.0, notes)


def _scores(table: RunTable, method: Method, metric: Metric) -> Scores:
    """The metric by seed; several runs with one seed count as their mean."""
    values: dict[int | str, list[float]] = {}
    for row in method.done:
        value = float(table.frame[metric.column][row])
        if np.isfinite(value):
            values.setdefault(table.settings[row]["seed"], []).append(value)
    return {seed: float(np.mean(values[seed])) for seed in sorted(values, key=str)}


def _row(table: RunTable, method: Method, scores: Scores, comparison: Comparison | None) -> Row:
    values = np.array(list(scores.values()))
    costs = {
        name: float(table.frame[name][method.done].mean()) if name in table.frame else float("nan") for name in COSTS
    }
    return Row(
        method=method,
        scores=scores,
        mean=float(values.mean()) if len(values) else float("nan"),
        sd=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        costs=costs,
        comparison=comparison,
        marks=guard_marks(table, method.done),
    )


def _spread_of_times(table: RunTable, found: Methods) -> float:
    """The largest ratio of two training times of one method, less 1; equal work takes equal time."""
    if "train_seconds" not in table.frame:
        return 0.0
    times = [table.frame["train_seconds"].iloc[method.done].dropna() for method in found.methods]
    return max((float(own.max() / own.min()) - 1 for own in times if len(own) > 1 and own.min() > 0), default=0.0)


def _notes(table: RunTable, found: Methods, metric: Metric, scores: Mapping[str, Scores]) -> tuple[str, ...]:
    notes = []
    if (spread := _spread_of_times(table, found)) > UNEVEN:
        notes.append(
            f"Training times of one method differ by up to {spread:.0%}: the machine was shared. Do not compare costs "
            "between these runs."
        )
    for method in found.methods:
        seeds = [table.settings[row]["seed"] for row in method.done]
        if len(set(seeds)) < len(seeds):
            notes.append(f"{method.label}: {len(seeds)} runs with {len(set(seeds))} seeds; a seed's runs are averaged.")
        undefined = len(set(seeds)) - len(scores[method.label])
        if undefined:
            notes.append(f"{method.label}: {metric.name} is undefined in {undefined} of {len(set(seeds))} seeds.")
    return tuple(notes)
