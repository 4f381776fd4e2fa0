"""The differences from the baseline, and the gains over several data sets, as forest plots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from harness.report.across import Across
from harness.report.comparison import Row, Section
from harness.report.evidence import Evidence
from harness.report.figures.differences import MOST_ROWS, Effect, forest
from harness.report.parts import Figure, Part
from harness.report.words import interval_text, shares_text, signed


def differences(section: Section, evidence: Evidence, number: int) -> list[Part]:
    """The forest plot of the differences from the baseline; empty where nothing is compared."""
    compared = section.compared
    if not compared:
        return []
    against = section.baselines[0] if len(section.baselines) == 1 else "the baseline"
    effects = [
        Effect(
            label=row.label,
            said=_effect_text(row, section),
            mean=one.mean_difference,
            interval=one.interval if one.n > 1 else None,
            dots=[(v, f"seed {seed}: {signed(v)}") for seed, v in zip(one.seeds, one.differences, strict=True)],
            style=evidence.styles[row.label],
        )
        for row, one in compared[:MOST_ROWS]
    ]
    name = section.metric.name
    draw = partial(
        forest, effects, f"Difference in {name}", f"{name} minus that of {against}", margin=section.rules.margin
    )
    margin = f" Gray band: differences within ±{section.rules.margin:g}." if section.rules.margin else ""
    caption = f"Diamond: mean. Bar: interval. Rings: paired seeds.{margin}"
    return [
        Figure(
            f"{number}/differences",
            f"Difference in {name}",
            draw,
            caption,
            evidence.toggles,
            wide=True,
        )
    ]


def _effect_text(row: Row, section: Section) -> str:
    one = row.comparison
    assert one is not None
    interval = f" {interval_text(one.interval)}" if math.isfinite(one.interval[1]) else ""
    versus = f", versus {one.baseline}" if len(section.baselines) > 1 else ""
    return f"{one.verdict_text}: {signed(one.mean_difference)}{interval}{versus}"


def across_figure(found: Across, styles: Mapping[str, int], number: int) -> Figure:
    """The probability of improvement of each method, one ring per data set."""
    effects = [
        Effect(
            label=row.label,
            said=f"{row.probability:.2f} {shares_text(row.probability_interval)}, versus {row.baseline}",
            mean=row.probability,
            interval=row.probability_interval,
            dots=[(p, f"{title}: {p:.2f}") for p, title in zip(row.probabilities, found.contexts, strict=True)],
            style=styles[row.label],
        )
        for row in found.rows
    ]
    axis = "probability that a run beats one of the baseline"
    draw = partial(forest, effects, "Probability of improvement", axis, zero=0.5, limits=(0.0, 1.0), signed=False)
    return Figure(f"across-{number}", "Probability of improvement", draw, "Rings: the data sets.", wide=True)
