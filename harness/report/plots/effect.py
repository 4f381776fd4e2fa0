"""Differences from the baseline: of one context by seed, and over several data sets."""

from __future__ import annotations

import math

from harness.report.across import Across, Together
from harness.report.comparison import Row, Section
from harness.report.plots.panel import spread, widened
from harness.report.plots.strips import Strip, strips_plot
from harness.report.words import interval_text, shares_text, signed

MOST_ROWS = 40
STYLES = {"better": "good", "worse": "bad"}


def effect_plot(section: Section) -> str:
    """One strip per comparison, one dot per paired seed; empty without any."""
    rows = [row for row in section.rows if row.comparison is not None and row.comparison.n][:MOST_ROWS]
    if not rows:
        return ""
    against = section.baselines[0] if len(section.baselines) == 1 else "the baseline"
    axis = f"{section.metric.name} minus that of {against}"
    return strips_plot(
        [_of_row(row, len(section.baselines) > 1) for row in rows],
        _limits(rows),
        0.0,
        axis,
        f"{axis}: mean, 95 % interval and paired seeds",
        lambda value, words: words if value <= 0 else f"+{words}",
    )


def improvement_plot(found: Across) -> str:
    """One strip per method, one dot per data set."""
    axis = "probability that a run beats one of the baseline"
    return strips_plot(
        [_of_together(row, found) for row in found.rows], (0.0, 1.0), 0.5, axis, f"{axis}: mean over data sets"
    )


def _of_row(row: Row, many: bool) -> Strip:
    one = row.comparison
    assert one is not None
    said = f"{one.verdict_text}: {signed(one.mean_difference)}"
    bounded = math.isfinite(one.interval[1])
    if bounded:
        said += f" {interval_text(one.interval)}"
    said += f", {one.n} seed{'s' if one.n > 1 else ''}" + (f", vs {one.baseline}" if many else "")
    return Strip(
        label=row.label,
        said=said,
        mean=one.mean_difference,
        interval=one.interval if bounded else None,
        dots=[(v, f"seed {seed}: {signed(v)}") for seed, v in zip(one.seeds, one.differences, strict=True)],
        style=STYLES.get(one.verdict, "undecided"),
    )


def _of_together(row: Together, found: Across) -> Strip:
    low, high = row.probability_interval
    known = not math.isnan(low)
    return Strip(
        label=row.label,
        said=f"{row.probability:.2f} {shares_text((low, high)) if known else ''}, vs {row.baseline}",
        mean=row.probability,
        interval=(low, high) if known else None,
        dots=[(p, f"{title}: {p:.2f}") for p, title in zip(row.probabilities, found.contexts, strict=True)],
        style="good" if low > 0.5 else "bad" if high < 0.5 else "undecided",
    )


def _limits(rows: list[Row]) -> tuple[float, float]:
    """Around all seeds, and intervals as far as three times that: two seeds have intervals that dwarf everything."""
    seeds = [value for row in rows if row.comparison for value in row.comparison.differences]
    low, high = widened(spread([0.0, *seeds]))
    room = high - low
    ends = [end for row in rows if row.comparison for end in row.comparison.interval if math.isfinite(end)]
    inside = [min(max(end, low - room), high + room) for end in ends]
    return widened(spread([low, high, *inside]))
