"""One context's methods in numbers: mean and spread over seeds, and the difference from the baseline with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.report.baselines import baselines_of
from harness.report.contexts import Context
from harness.report.frame import RunTable
from harness.report.guard import guard_marks
from harness.report.methods import Method, Methods, methods_of
from harness.report.metric import Metric
from harness.report.rules import Rules
from harness.statistics import Comparison, compare, compared_with_best, least_learned, nothing_learned

UNEVEN = 0.25  # training times of one method that differ by more say that the machine was shared
COSTS = ("train_seconds", "images_per_second", "peak_memory_mb")
# Shown beside the metric where runs have them: masks, keypoints, and the frequency groups of LVIS.
BESIDE = ("map", "segm.map", "keypoints.map", "map_rare", "map_common", "map_frequent")
Scores = dict[int | str, float]  # seed -> metric


@dataclass(frozen=True)
class Row:
    """One method of the main table."""

    method: Method
    scores: Scores
    mean: float  # over seeds; NaN without any
    sd: float  # between seeds; NaN below two
    costs: Mapping[str, float]  # mean over runs
    beside: Mapping[str, float]  # other numbers of the evaluation, mean over runs; NaN where a method has none
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
    rules: Rules
    notes: tuple[str, ...]

    @property
    def racing(self) -> bool:
        """Whether all methods are compared with each other, to find the best; ``baselines`` is then the one that
        leads."""
        return self.rules.goal == "best"

    @property
    def comparisons(self) -> int:
        """How many comparisons are corrected together."""
        number = sum(bool(row.scores) for row in self.rows)
        return number * (number - 1) // 2 if self.racing else len(self.compared)

    def row(self, label: str) -> Row:
        """The row of a method."""
        return next(row for row in self.rows if row.label == label)

    @property
    def compared(self) -> list[tuple[Row, Comparison]]:
        """The rows that share at least one seed with their baseline."""
        return [(row, row.comparison) for row in self.rows if row.comparison is not None and row.comparison.n]

    @property
    def beside(self) -> list[str]:
        """The columns of other numbers that some method has; mAP of the boxes only beside that of another part."""
        known = [
            name
            for name in BESIDE
            if name != self.metric.column and any(np.isfinite(row.beside[name]) for row in self.rows)
        ]
        return [] if known == ["map"] and not self.metric.column.startswith(BESIDE[1:]) else known

    @property
    def least_learned(self) -> float | None:
        """The mean below which a method has learned nothing."""
        return least_learned(self.metric.column, self.rules.margin)

    @property
    def nothing_learned(self) -> bool:
        """Whether no method learned enough for a comparison."""
        return nothing_learned((row.mean for row in self.rows), self.least_learned)


def section_of(
    table: RunTable,
    context: Context,
    metric: Metric,
    group_by: Sequence[str] | None = None,
    rules: Rules | None = None,
) -> Section:
    """Compares the methods of one context, paired by seed; all of its comparisons are corrected together."""
    rules = rules or Rules()
    found = methods_of(table, context, group_by)
    scores = {method.label: _scores(table, method, metric) for method in found.methods}
    heads, compared = _compared(table, found, scores, metric, rules)
    by_name = {one.name: one for one in compared}
    sign = 1 if metric.higher_is_better else -1
    rows = [_row(table, method, scores[method.label], by_name.get(method.label)) for method in found.methods]
    rows.sort(key=lambda row: (row.label not in heads, -sign * np.nan_to_num(row.mean, nan=-sign * np.inf)))
    notes = (*rules.notes, *_notes(table, found, metric, scores))
    return Section(context, found, metric, rows, heads, rules, notes)


def _compared(
    table: RunTable, found: Methods, scores: Mapping[str, Scores], metric: Metric, rules: Rules
) -> tuple[tuple[str, ...], list[Comparison]]:
    """The baselines, or the method that leads, and what is compared with them."""
    rule: dict[str, Any] = {
        "alpha": rules.alpha,
        "margin": rules.margin,
        "test": rules.test,
        "higher_is_better": metric.higher_is_better,
        "least_learned": least_learned(metric.column, rules.margin),
    }
    if rules.goal == "best":
        racing = {name: of for name, of in scores.items() if of}
        race = compared_with_best(racing, **rule)
        losing = {one.name for one in race}
        leading = [name for name in racing if name not in losing]
        return tuple(leading) if len(leading) == 1 else (), race
    partners = baselines_of(table, found.methods, rules.baseline)
    if not partners and rules.baseline is not None and not rules.baseline_asked and len(found.methods) > 1:
        partners = baselines_of(table, found.methods, None)  # the sweep's baseline has no run here yet
    heads = tuple(dict.fromkeys(partners.values())) or tuple(
        one.label for one in found.methods[:1] if len(found.methods) == 1
    )
    return heads, compare(scores, partners, **rule)


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
    costs = {name: _mean(table, method, name) for name in COSTS}
    return Row(
        method=method,
        scores=scores,
        mean=float(values.mean()) if len(values) else float("nan"),
        sd=float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        costs=costs,
        beside={name: _mean(table, method, name) for name in BESIDE},
        comparison=comparison,
        marks=guard_marks(table, method.done),
    )


def _mean(table: RunTable, method: Method, column: str) -> float:
    return float(table.frame[column][method.done].mean()) if column in table.frame else float("nan")


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
