"""One context's methods in numbers: mean and spread over seeds, and the difference from the baseline with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.baselines import baselines_of
from harness.report.contexts import Context
from harness.report.frame import RunTable
from harness.report.methods import Method, Methods, methods_of
from harness.report.metric import Metric
from harness.statistics import Comparison, compare, sign_flip_test
from harness.statistics.verdicts import ALPHA, MARGIN

Scores = dict[int | str, float]  # seed -> metric
UNEVEN = 0.25  # training times of one method that differ by more say that the machine was shared
COSTS = ("train_seconds", "images_per_second", "peak_memory_mb")


@dataclass(frozen=True)
class Row:
    """One method of the main table."""

    method: Method
    scores: Scores
    mean: float  # over seeds; NaN without any
    sd: float  # between seeds; NaN below two
    costs: Mapping[str, float]  # mean over runs
    comparison: Comparison | None  # None for a baseline and where nothing was compared
    sign_flip_p: float

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
    test: str
    margin: float  # the smallest difference worth having, in the metric's unit
    notes: tuple[str, ...]

    def row(self, label: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.label == label)


def section_of(
    table: RunTable,
    context: Context,
    metric: Metric,
    group_by: Sequence[str] | None = None,
    baseline: Mapping[str, str] | None = None,
    test: str = "anytime",
    margin: float = MARGIN,
) -> Section:
    """Compares the methods of one context, paired by seed; Holm's correction goes over all of its comparisons."""
    found = methods_of(table, context, group_by)
    scores = {method.label: _scores(table, method, metric) for method in found.methods}
    partners = baselines_of(table, found.methods, baseline)
    compared = {
        one.name: one
        for one in compare(
            scores, partners, alpha=ALPHA, margin=margin, test=test, higher_is_better=metric.higher_is_better
        )
    }
    sign = 1 if metric.higher_is_better else -1
    rows = [_row(table, method, scores[method.label], compared.get(method.label)) for method in found.methods]
    heads = tuple(dict.fromkeys(partners.values()))
    if not heads and len(rows) == 1:
        heads = (rows[0].label,)
    rows.sort(key=lambda row: (row.label not in heads, -sign * np.nan_to_num(row.mean, nan=-sign * np.inf)))
    notes = _notes(table, found, metric, scores)
    return Section(context, found, metric, rows, heads, test, margin, notes)


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
    flips = comparison.differences if comparison is not None and comparison.n > 1 else ()
    return Row(
        method=method,
        scores=scores,
        mean=float(values.mean()) if len(values) else float("nan"),
        sd=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        costs=costs,
        comparison=comparison,
        sign_flip_p=sign_flip_test(flips) if flips else float("nan"),
    )


def _spread_of_times(table: RunTable, found: Methods) -> float:
    """The largest ratio of two training times of one method, less 1; equal work takes equal time."""
    if "train_seconds" not in table.frame:
        return 0.0
    times = [table.frame["train_seconds"].iloc[method.done].dropna() for method in found.methods]
    return max((float(own.max() / own.min()) - 1 for own in times if len(own) > 1 and own.min() > 0), default=0.0)


def _notes(table: RunTable, found: Methods, metric: Metric, scores: Mapping[str, Scores]) -> tuple[str, ...]:
    notes = []
    if found.merged:
        notes.append(f"The grouping merges runs that differ in {', '.join(found.merged[:8])}.")
    if (spread := _spread_of_times(table, found)) > UNEVEN:
        notes.append(
            f"Training times of one method differ by up to {spread:.0%}: something else ran beside, so that costs and "
            "speeds compare badly."
        )
    for method in found.methods:
        seeds = [table.settings[row]["seed"] for row in method.done]
        if len(set(seeds)) < len(seeds):
            notes.append(f"{method.label}: {len(seeds)} runs with {len(set(seeds))} seeds; a seed's runs are averaged.")
        undefined = len(set(seeds)) - len(scores[method.label])
        if undefined:
            notes.append(f"{method.label}: {metric.name} is undefined in {undefined} of {len(set(seeds))} seeds.")
    return tuple(notes)
