"""What several data sets say together (Agarwal et al. 2021): how much a method gains, and how often it wins.

Metrics of different data sets lie on different heights, so that their differences from the baseline are put together,
not the metrics themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.comparison import Row, Section
from harness.report.frame import RunTable
from harness.report.methods import is_aside
from harness.report.metric import Metric
from harness.statistics import interquartile_mean, probability_of_improvement, stratified_bootstrap

MOST_ROWS = 24  # methods; each costs a tenth of a second
_RESAMPLES = 1_000
_FEWEST_SEEDS = 3  # on every data set, for an interval: fewer resample to next to nothing
Interval = tuple[float, float]
_UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class AcrossRow:
    """One method against its baseline over all data sets."""

    label: str
    baseline: str
    differences: tuple[float, ...]  # mean of the paired seeds, one per data set
    pairs: int  # paired seeds of all data sets
    gain: float  # interquartile mean of the differences of all paired seeds
    gain_interval: Interval
    probability: float  # that a run of the method beats one of the baseline, mean over data sets
    probability_interval: Interval
    probabilities: tuple[float, ...]  # one per data set
    ahead: int  # data sets on which the mean difference is an improvement


@dataclass(frozen=True)
class Across:
    """All methods that several data sets of one detector share."""

    detector: str
    contexts: tuple[str, ...]  # their titles
    metric: Metric
    rows: list[AcrossRow]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Which detector, how many data sets."""
        return f"{self.detector} over {len(self.contexts)} data sets"


def across_data_sets(table: RunTable, sections: Sequence[Section]) -> list[Across]:
    """One for each detector that was trained on several data sets, where methods of the same name were compared."""
    frame = table.frame
    by_detector: dict[str, list[Section]] = {}
    for section in sections:
        by_detector.setdefault(str(frame["detector"][section.context.done[0]]), []).append(section)
    out = []
    for detector, own in by_detector.items():
        chosen, notes = _one_per_data_set(table, [section for section in own if _compares(section)])
        if len(chosen) > 1:
            out.append(_across(table, detector, chosen, notes))
    return [one for one in out if one.rows]


def _compares(section: Section) -> bool:
    return any(row.comparison is not None and row.comparison.n for row in section.rows)


def _one_per_data_set(table: RunTable, sections: Sequence[Section]) -> tuple[list[Section], list[str]]:
    """A data set counts once, however often it was used: with the length and rules that most of its runs have."""
    by_data: dict[str, list[Section]] = {}
    for section in sections:
        by_data.setdefault(str(table.frame["fingerprint"][section.context.done[0]]), []).append(section)
    chosen = [max(same, key=lambda section: len(section.context.done)) for same in by_data.values()]
    left = [section.context.title for section in sections if section not in chosen]
    return chosen, [f"A data set counts once; left out here: {'; '.join(left)}."] if left else []


def _across(table: RunTable, detector: str, sections: Sequence[Section], notes: Sequence[str]) -> Across:
    compared = [
        {row.label: row for row in section.rows if row.comparison is not None and row.comparison.n}
        for section in sections
    ]
    names = list(dict.fromkeys(name for rows in compared for name in rows))
    everywhere = [name for name in names if all(name in rows for rows in compared)]
    alike = [name for name in everywhere if len({_baseline(rows[name]) for rows in compared}) == 1]
    notes = [*notes]
    if left := [name for name in names if name not in alike]:
        notes.append(
            f"Not compared with one baseline on every data set, and left out here: {', '.join(left[:8])}"
            f"{f' and {len(left) - 8} more' if len(left) > 8 else ''}."
        )
    if len(alike) > MOST_ROWS:
        notes.append(f"The first {MOST_ROWS} of {len(alike)} methods are shown.")
    if differing := _differing(table, sections, alike):
        notes.append(
            f"Between the data sets, runs of one name also differ in {', '.join(differing[:8])}"
            f"{f' and {len(differing) - 8} more settings' if len(differing) > 8 else ''}."
        )
    metric = sections[0].metric
    rows = [_row_of(name, [of[name] for of in compared], sections) for name in alike[:MOST_ROWS]]
    rows.sort(key=lambda row: -row.gain if metric.higher_is_better else row.gain)
    return Across(detector, tuple(section.context.title for section in sections), metric, rows, tuple(notes))


def _differing(table: RunTable, sections: Sequence[Section], names: Sequence[str]) -> list[str]:
    """Settings of the methods that are not the same on every data set."""
    found: dict[str, None] = {}
    for name in names:
        settings = [table.settings[section.row(name).method.done[0]] for section in sections]
        for key in dict.fromkeys(key for one in settings for key in one):
            if not is_aside(key) and len({str(one.get(key)) for one in settings}) > 1:
                found[key] = None
    return list(found)


def _baseline(row: Row) -> str | None:
    return None if row.comparison is None else row.comparison.baseline


def _row_of(name: str, rows: Sequence[Row], sections: Sequence[Section]) -> AcrossRow:
    compared = [row.comparison for row in rows if row.comparison is not None]
    baseline = compared[0].baseline
    paired = [list(one.differences) for one in compared]
    sign = 1 if sections[0].metric.higher_is_better else -1
    own = [[sign * value for value in row.scores.values()] for row in rows]
    other = [[sign * value for value in section.row(baseline).scores.values()] for section in sections]
    gain_interval = probability_interval = _UNKNOWN
    if min(len(group) for group in (*paired, *own, *other)) >= _FEWEST_SEEDS:
        gain_interval = stratified_bootstrap(interquartile_mean, paired, resamples=_RESAMPLES)
        probability_interval = stratified_bootstrap(probability_of_improvement, own, other, resamples=_RESAMPLES)
    return AcrossRow(
        label=name,
        baseline=baseline,
        differences=tuple(one.mean_difference for one in compared),
        pairs=sum(one.n for one in compared),
        gain=interquartile_mean(paired),
        gain_interval=gain_interval,
        probability=probability_of_improvement(own, other),
        probability_interval=probability_interval,
        probabilities=tuple(probability_of_improvement([a], [b]) for a, b in zip(own, other, strict=True)),
        ahead=sum(sign * one.mean_difference > 0 for one in compared),
    )
