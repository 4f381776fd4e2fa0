"""By which rules the methods of one context are judged: alpha, margin, goal and baseline, and where these come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.baselines import parse_conditions
from harness.report.contexts import Context
from harness.report.frame import RunTable
from harness.report.metric import Metric
from harness.report.sweeps import Sweep, Sweeps
from harness.statistics.verdicts import ALPHA, MARGIN


@dataclass(frozen=True)
class Options:
    """What a reader asked for. None in baseline, alpha, margin and goal: as the sweep of the runs was asked, else the
    default."""

    baseline: str | None = None  # setting=value[,setting=value]; default: sampler=random, else the one with most runs
    group_by: tuple[str, ...] | None = None  # None: every setting in which the runs differ, but the seed
    metric: str = "map"
    test: str = "anytime"  # anytime | t | sign_flip
    margin: float | None = None
    alpha: float | None = None
    goal: str | None = None  # baseline | best


@dataclass(frozen=True)
class Rules:
    """How the methods of one context are judged."""

    alpha: float = ALPHA  # accepted probability of any false verdict
    margin: float = MARGIN  # differences of this size and less are the same for practical purposes
    goal: str = "baseline"  # every method against a baseline | best: all against each other
    baseline: Mapping[str, str] | None = None  # the settings of the baseline; None: none was named
    test: str = "anytime"
    source: str = ""  # where alpha, margin and goal come from, for a sentence
    baseline_asked: bool = False  # by the reader; else it is the sweep's or the usual one
    notes: tuple[str, ...] = ()


def rules_of(table: RunTable, context: Context, metric: Metric, asked: Options, sweeps: Sweeps) -> Rules:
    """What was asked for comes first, then what the sweep of the context's runs was asked, then the defaults.

    Sweeps that judged by another metric, or that do not agree with each other, decide nothing; there is a note.
    """
    names = {table.paths[row].name for row in context.done}
    own = [sweep for sweep in sweeps.found if sweep.runs & names]
    notes = list(sweeps.notes)
    judged = [sweep for sweep in own if sweep.metric == metric.column]
    if own and not judged:
        others = ", ".join(dict.fromkeys(sweep.metric for sweep in own))
        notes.append(
            f"The sweep of these runs judged by {others}: the report is by its rules with --metric {own[-1].metric}."
        )
    sweep = judged[-1] if judged else None
    if len({(one.alpha, one.margin, one.goal) for one in judged}) > 1:
        told = "; ".join(f"{one.name}: alpha {one.alpha:g}, margin {one.margin:g}, goal {one.goal}" for one in judged)
        notes.append(f"The sweeps of these runs were asked different things ({told}), so the defaults hold.")
        sweep = None
    return Rules(
        alpha=_first(asked.alpha, sweep.alpha if sweep else None, ALPHA),
        margin=_first(asked.margin, sweep.margin if sweep else None, MARGIN) if metric.is_accuracy else 0.0,
        goal=asked.goal or (sweep.goal if sweep else "baseline"),
        baseline=_baseline(asked, judged, sweep),
        test=asked.test,
        source=_source(asked, sweep),
        baseline_asked=asked.baseline is not None,
        notes=tuple(notes),
    )


def _baseline(asked: Options, judged: Sequence[Sweep], sweep: Sweep | None) -> Mapping[str, str] | None:
    if asked.baseline is not None:
        return parse_conditions(asked.baseline)
    if sweep is None or sweep.baseline is None or len({one.baseline for one in judged}) > 1:
        return None
    return parse_conditions(sweep.baseline)


def _source(asked: Options, sweep: Sweep | None) -> str:
    given = [name for name in ("alpha", "margin", "goal") if getattr(asked, name) is not None]
    if len(given) == 3:
        return "as asked"
    rest = f"of the sweep {sweep.name}" if sweep else "the default"
    return f"{' and '.join(given)} as asked, the rest {rest}" if given else rest


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
