"""Is the difference real? Methods compared with a named baseline, paired by seed, with a verdict in words.

The verdict rests on the sign-flip test and Holm's correction. That test needs no assumption about the noise, and says
so when it cannot know: with 5 seeds or fewer its p cannot fall below 2 / 2^5 = .0625, whatever the differences.
The paired t-test can be chosen instead; it decides from 3 seeds on, and is right to the extent that the differences
are normal. The number of seeds that would settle a comparison is for the chosen test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.runs.records import jsonable
from harness.statistics.aggregate import interquartile_mean, probability_of_improvement, stratified_bootstrap
from harness.statistics.image_bootstrap import ImageBootstrap, paired_image_bootstrap
from harness.statistics.intervals import Interval, bca_interval, t_interval
from harness.statistics.paired_tests import holm, paired_t_test, sign_flip_floor, sign_flip_test
from harness.statistics.power import TESTS, paired_t_power, seeds_for_power, sign_flip_power

__all__ = [
    "BETTER",
    "NOT_ENOUGH_SEEDS",
    "NO_DIFFERENCE_SHOWN",
    "WORSE",
    "Comparison",
    "Decision",
    "ImageBootstrap",
    "bca_interval",
    "compare_to_baseline",
    "decide",
    "holm",
    "interquartile_mean",
    "paired_image_bootstrap",
    "paired_t_power",
    "paired_t_test",
    "probability_of_improvement",
    "seeds_for_power",
    "sign_flip_floor",
    "sign_flip_power",
    "sign_flip_test",
    "stratified_bootstrap",
    "t_interval",
]

BETTER, WORSE = "better", "worse"
NO_DIFFERENCE_SHOWN = "no difference shown"
NOT_ENOUGH_SEEDS = "not enough seeds"
MIN_SEEDS_OF_T = 3  # two differences say next to nothing about their own spread

Seed = int | str


@dataclass(frozen=True)
class Decision:
    """What the test says about one row of differences."""

    p: float  # two-sided; NaN with fewer than 2 differences
    p_holm: float  # adjusted for all comparisons decided together; NaN where no p could have been small enough
    verdict: str  # better | worse | no difference shown | not enough seeds


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline, over the seeds that both have finished. NaN where n is too small."""

    name: str
    baseline: str
    n: int  # paired seeds
    mean_difference: float  # this minus the baseline, in the unit of the score
    interval: Interval  # Student's, of the mean difference; not corrected for several comparisons
    p: float  # two-sided, of `test`
    p_holm: float  # adjusted for the comparisons tested together; NaN if n can show nothing and was left out
    verdict: str  # better | worse | no difference shown | not enough seeds
    seeds_needed: int | None  # further seeds to settle it; 0 where it is settled, None where that cannot be said
    sd: float  # standard deviation of the differences
    bootstrap_interval: Interval  # bias-corrected and accelerated; too narrow below 10 seeds
    seeds: tuple[Seed, ...]  # the paired seeds
    differences: tuple[float, ...]  # one per seed, in that order
    test: str  # sign_flip | t

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what has no value (NaN) is None."""
        plain: dict[str, Any] = jsonable(self)
        return plain


def decide(
    differences: Sequence[ArrayLike], alpha: float = 0.05, test: str = "sign_flip", higher_is_better: bool = True
) -> list[Decision]:
    """Test several rows of paired differences together.

    A row is `better` or `worse` if its Holm-adjusted p is at most alpha: the chance that any row of a sweep is called
    so falsely is at most alpha. It is `not enough seeds` if even the least p that the test can give with so many
    differences would not have been enough, and `no difference shown` otherwise, which is no proof of equality.
    Rows so short that no data could show anything cannot be called falsely either: Holm's correction leaves them out.
    """
    if test not in TESTS:
        raise ValueError(f"test must be one of {', '.join(TESTS)}, got {test!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha:g}")
    rows = [np.asarray(row, np.float64) for row in differences]
    p = np.array([_p_value(row, test) for row in rows])
    floors = np.array([_floor(len(row), test) for row in rows])
    family = np.where(floors <= alpha, p, np.nan)
    adjusted = holm(family)
    decisions = []
    for i, row in enumerate(rows):
        best_case = family.copy()
        best_case[i] = floors[i]
        if adjusted[i] <= alpha:
            verdict = BETTER if (row.mean() > 0) == higher_is_better else WORSE
        elif holm(best_case)[i] <= alpha:
            verdict = NO_DIFFERENCE_SHOWN
        else:
            verdict = NOT_ENOUGH_SEEDS
        decisions.append(Decision(float(p[i]), float(adjusted[i]), verdict))
    return decisions


def compare_to_baseline(
    scores: Mapping[str, Mapping[Seed, float]],
    baseline: str,
    alpha: float = 0.05,
    level: float = 0.95,
    test: str = "sign_flip",
    higher_is_better: bool = True,
    effect: float | None = None,
    power: float = 0.8,
    resamples: int = 9_999,
) -> list[Comparison]:
    """Compare every method with the baseline, paired by seed.

    `scores[method][seed]` is one number per finished run; a missing or NaN one leaves its seed out of that comparison.
    `effect` is the difference worth showing, for `seeds_needed`; None takes the mean difference seen, which is a
    noisy guess. `seeds_needed` allows for Holm's correction at its strictest (alpha over the number of comparisons).

    Raises ValueError if the baseline is not among the methods, and for an unknown test or a level outside (0, 1).
    """
    if baseline not in scores:
        raise ValueError(f"baseline {baseline!r} is not among the methods ({', '.join(scores) or 'there are none'})")
    names = [name for name in scores if name != baseline]
    paired = [_paired(scores[name], scores[baseline]) for name in names]
    decisions = decide([row for _, row in paired], alpha, test, higher_is_better)
    strict = alpha / max(1, sum(len(row) > 1 for _, row in paired))
    result = []
    for name, (seeds, row), decision in zip(names, paired, decisions, strict=True):
        sd = float(row.std(ddof=1)) if len(row) > 1 else float("nan")
        mean = float(row.mean()) if len(row) else float("nan")
        comparison = Comparison(
            name=name,
            baseline=baseline,
            n=len(row),
            mean_difference=mean,
            interval=t_interval(row, level),
            p=decision.p,
            p_holm=decision.p_holm,
            verdict=decision.verdict,
            seeds_needed=_further_seeds(decision.verdict, row, mean if effect is None else effect, strict, power, test),
            sd=sd,
            bootstrap_interval=bca_interval(row, level, resamples),
            seeds=seeds,
            differences=tuple(row.tolist()),
            test=test,
        )
        result.append(comparison)
    return result


def fewest_pairs(comparisons: int, test: str, alpha: float = 0.05) -> int:
    """The paired seeds with which the test can show one of so many comparisons, Holm's correction at its strictest."""
    return next(n for n in range(1, 1_000) if _floor(n, test) <= alpha / comparisons)


def _p_value(row: NDArray[np.float64], test: str) -> float:
    if len(row) < 2:
        return float("nan")
    return sign_flip_test(row) if test == "sign_flip" else paired_t_test(row)


def _floor(n: int, test: str) -> float:
    """The least p that n differences can give."""
    if test == "t":
        return 0.0 if n >= MIN_SEEDS_OF_T else 1.0
    return sign_flip_floor(n) if n else 1.0


def _further_seeds(
    verdict: str, row: NDArray[np.float64], effect: float, alpha: float, power: float, test: str
) -> int | None:
    if verdict in (BETTER, WORSE):
        return 0
    if len(row) < 2:
        return None
    total = seeds_for_power(effect, float(row.std(ddof=1)), alpha, power, test)
    # Settled by the plan, but not by these seeds: one more is the least that can change the verdict.
    return None if total is None else max(1, total - len(row))


def _paired(ours: Mapping[Seed, float], theirs: Mapping[Seed, float]) -> tuple[tuple[Seed, ...], NDArray[np.float64]]:
    shared = sorted(ours.keys() & theirs.keys(), key=lambda seed: (isinstance(seed, str), seed))
    rows = [(seed, ours[seed] - theirs[seed]) for seed in shared]
    kept = [(seed, difference) for seed, difference in rows if np.isfinite(difference)]
    return tuple(seed for seed, _ in kept), np.array([difference for _, difference in kept], np.float64)
