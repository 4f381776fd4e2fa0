"""What of OHEM's effect is hardness, and what is only its share of positives.

OHEM changes two things at once: which candidates train (the hard ones), and how many of them are positive. The arm
`matched_random` takes as many positives and negatives as OHEM would, at random, so that

    OHEM - random  =  (OHEM - matched_random)  +  (matched_random - random)
                      hardness                    share of positives
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.report.comparison import Row, Section
from harness.report.frame import RunTable, Settings
from harness.statistics import BETTER, WORSE, decide

MIN_SEEDS = 3


@dataclass(frozen=True)
class Part:
    """One difference over the seeds that all of its arms share."""

    name: str
    arms: str
    mean: float
    interval: tuple[float, float]
    n: int
    shown: bool = False  # of hardness and share of positives: a difference by the test of the section's verdicts

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval of this difference alone excludes 0, on enough seeds to mean something."""
        low, high = self.interval
        return self.n >= MIN_SEEDS and (low > 0 or high < 0)


@dataclass(frozen=True)
class Decomposition:
    """One OHEM arm taken apart, or what is missing for it."""

    ohem: str
    parts: tuple[Part, ...]
    missing: tuple[str, ...]


def decompose(table: RunTable, section: Section) -> list[Decomposition]:
    """One for each OHEM arm of the section, complete ones first; none where there is no OHEM."""
    random = [row for row in section.rows if _option(table, row) == "random"]
    matched = [row for row in section.rows if _option(table, row) == "matched_random"]
    found = [
        _taken_apart(table, section, row, random, [one for one in matched if _is_of(table, one, row)])
        for row in section.rows
        if _option(table, row).startswith("ohem")
    ]
    return sorted(found, key=lambda one: len(one.missing))


def _taken_apart(
    table: RunTable, section: Section, ohem: Row, random: Sequence[Row], matched: Sequence[Row]
) -> Decomposition:
    random = [row for row in random if _alike(table, row, ohem)]
    matched = [row for row in matched if _alike(table, row, ohem)]
    ordered = sorted(random, key=lambda row: _fraction(table, row))
    plain = _plain(table, ohem, ordered)
    raised = [row for row in ordered if plain is not None and _fraction(table, row) > _fraction(table, plain)]
    missing = []
    if plain is None:
        missing.append("sampler=random")
    if not matched:
        missing.append(f"sampler=matched_random of {ohem.label}")
    if not raised:
        missing.append("sampler=random with a higher sampler.pos_fraction")
    parts = []
    if plain is not None and matched:
        control = matched[0]
        shared = _shared(ohem, control, plain)
        parts = [_part(section, "all of it", ohem, plain, shared)]
        for half in (("hardness", ohem, control), ("share of positives", control, plain)):
            parts.append(replace(_part(section, *half, shared), shown=_shown(section, *half[1:], shared)))
    if plain is not None:
        for row in raised:
            parts.append(_part(section, "more positives alone", row, plain, _shared(row, plain)))
            parts.append(_part(section, "beyond more positives", ohem, row, _shared(ohem, row)))
    return Decomposition(ohem.label, tuple(parts), tuple(missing))


def _plain(table: RunTable, ohem: Row, random: Sequence[Row]) -> Row | None:
    """The random arm to compare OHEM with: its baseline, else one with its share of positives, else the lowest."""
    baseline = None if ohem.comparison is None else ohem.comparison.baseline
    fitting = [row for row in random if row.label == baseline]
    fitting += [row for row in random if _fraction(table, row) == _fraction(table, ohem)]
    return next(iter([*fitting, *random]), None)


def _shown(section: Section, first: Row, second: Row, seeds: Sequence[int | str]) -> bool:
    """Whether two arms differ: the table's own verdict, or that of the same test with this comparison in its family."""
    one = first.comparison
    if one is not None and one.baseline == second.label and set(one.seeds) == set(seeds):
        return one.verdict in (BETTER, WORSE)
    family = [row.comparison.differences for row in section.rows if row.comparison is not None and row.comparison.n]
    *_, decision = decide(
        [*family, _differences(first, second, seeds)], alpha=section.rules.alpha, test=section.rules.test
    )
    return decision.verdict in (BETTER, WORSE)


def _part(section: Section, name: str, first: Row, second: Row, seeds: Sequence[int | str]) -> Part:
    values = _differences(first, second, seeds)
    mean = float(values.mean()) if len(values) else float("nan")
    (alone,) = decide([values], alpha=section.rules.alpha, test=section.rules.test)
    return Part(name, f"{first.label} − {second.label}", mean, alone.interval, len(values))


def _differences(first: Row, second: Row, seeds: Sequence[int | str]) -> NDArray[np.float64]:
    return np.array([first.scores[seed] - second.scores[seed] for seed in seeds])


def _shared(*rows: Row) -> list[int | str]:
    return sorted(set.intersection(*(set(row.scores) for row in rows)), key=str)


def _settings(table: RunTable, row: Row) -> Settings:
    return table.settings[row.method.done[0]]


def _option(table: RunTable, row: Row) -> str:
    return str(_settings(table, row).get("sampler", ""))


def _fraction(table: RunTable, row: Row) -> float:
    value = _settings(table, row).get("sampler.pos_fraction")
    return float(value) if isinstance(value, (int, float)) else 0.0


def _alike(table: RunTable, one: Row, other: Row) -> bool:
    """Whether two arms differ in their sampler only."""
    return _without_sampler(one.method.settings) == _without_sampler(other.method.settings)


def _without_sampler(settings: dict[str, Hashable]) -> dict[str, Hashable]:
    # A quota only feeds the samplers, which are what the arms differ in; `arm` is but the name of the joint choice.
    return {
        key: value
        for key, value in settings.items()
        if key.split(".")[0] not in ("sampler", "quota") and key != "experiment.arm"
    }


def _is_of(table: RunTable, matched: Row, ohem: Row) -> bool:
    """Whether a matched_random copies the counts of this very OHEM."""
    of = {k.removeprefix("sampler.of."): v for k, v in _settings(table, matched).items() if k.startswith("sampler.of.")}
    own = {k.removeprefix("sampler."): v for k, v in _settings(table, ohem).items() if k.startswith("sampler.")}
    if of.get("_target_") != own.get("_target_"):
        return False
    if own.get("separate_quotas") is False and of.get("separate_quotas") is False:
        own.pop("pos_fraction", None)  # with one quota for both, nothing looks at the fraction
    return all(own[key] == value for key, value in of.items() if key in own)
