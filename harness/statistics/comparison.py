"""Is the difference real? Methods compared with a baseline, paired by seed, with a verdict in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.runs.records import jsonable
from harness.statistics.expectation import LIMIT, SETTLED, FurtherSeeds, expected_further_seeds
from harness.statistics.intervals import Interval
from harness.statistics.learned import NOTHING_LEARNED, nothing_learned
from harness.statistics.verdicts import ALPHA, MARGIN, OPEN, Decision, decide, verdict_text

Seed = int | str
Scores = Mapping[str, Mapping[Seed, float]]  # scores[method][seed]


@dataclass(frozen=True)
class Comparison:
    """One method against its baseline, over the seeds that both have finished.

    Differences are this method's score minus the baseline's, in the unit of the score. What cannot be said yet (no
    shared seed, too few for the test) is NaN or None.
    """

    name: str
    baseline: str
    n: int  # paired seeds
    mean_difference: float
    interval: Interval  # of the mean difference, at `level`; ±inf while there are too few seeds
    p: float  # two-sided, against "no difference"
    verdict: str  # better | worse | same within ±margin | open | nothing learned
    # Expected until a verdict; None below 3 seeds, for a fixed-sample test and where nothing was learned.
    further_seeds: FurtherSeeds | None
    p_holm: float  # p after Holm's correction, on which better and worse rest; NaN if too short to be tested
    p_same: float  # p against "at least the margin", after Holm's correction
    level: float  # 1 - alpha / number of comparisons: all intervals together hold with probability 1 - alpha
    sd: float  # standard deviation of the differences
    seeds: tuple[Seed, ...]  # the paired seeds in order
    differences: tuple[float, ...]  # one per seed, in that order
    test: str  # anytime | t | sign_flip
    margin: float
    contradictory: bool  # early and late seeds exclude each other: not draws of one normal distribution

    @property
    def verdict_text(self) -> str:
        """The verdict with the margin as a number."""
        return verdict_text(self.verdict, self.margin)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what has no value (NaN) is None, and so is an unbounded end of an interval."""
        plain: dict[str, Any] = jsonable(self)
        plain["interval"] = [end if np.isfinite(end) else None for end in self.interval]
        return plain


def compare(
    scores: Scores,
    baseline: str | Mapping[str, str],
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
    test: str = "anytime",
    higher_is_better: bool = True,
    max_further_seeds: int = LIMIT,
    least_learned: float | None = None,
) -> list[Comparison]:
    """Compare methods with a baseline, paired by seed; one result per method, in the order given.

    >>> scores = {"random": {0: 0.500, 1: 0.512, 2: 0.495, 3: 0.507, 4: 0.503},
    ...           "ohem": {0: 0.561, 1: 0.570, 2: 0.559, 3: 0.566, 4: 0.567}}
    >>> (ohem,) = compare(scores, "random")
    >>> ohem.verdict, ohem.n, round(ohem.mean_difference, 4)
    ('better', 5, 0.0612)

    Args:
        scores: ``scores[method][seed]``, one number per finished run.
        baseline: the method that all others are compared with, or method -> its own baseline (methods that are no key
            are not compared). All comparisons are corrected together.
        alpha: the probability of any false ``better`` or ``worse`` that is accepted, over all comparisons and, with
            ``test="anytime"``, over all looks (see :func:`harness.statistics.decide`).
        margin: the smallest difference worth having, in the unit of the scores; 0.005 suits mAP as a fraction.
        test: ``anytime``: seeds may be added and looked at as often as wanted. ``t``, ``sign_flip``: valid for one look
            at a number of seeds that was fixed beforehand.
        higher_is_better: False for errors and times.
        max_further_seeds: up to how many further seeds the expectation looks ahead.
        least_learned: a comparison of two methods whose means are both below this gets the verdict ``nothing learned``;
            None: the scores have no such bound (see :func:`harness.statistics.least_learned`).

    Seeds are taken in the order of their numbers (names after numbers), so that the result does not depend on which
    run finished first. A seed that one of the two methods lacks (missing, failed or NaN) is skipped as if it had never
    been drawn, also in the middle. That is valid as long as seeds are not missing *because of* their scores. If it is
    filled in later, the evidence becomes that of the complete order; a verdict can then change back, and the error
    bound is that of the final order.

    Raises:
        ValueError: an unknown baseline or test, alpha outside (0, 1), a negative margin.
    """
    partners = _partners(scores, baseline)
    paired = {name: paired_differences(scores[name], scores[partner]) for name, partner in partners.items()}
    rows = [row for _, row in paired.values()]
    decisions = decide(rows, alpha=alpha, margin=margin, test=test, higher_is_better=higher_is_better)
    levels = levels_of_open(decisions, alpha)
    found = [
        comparison_of(name, partners[name], seeds, row, decision, test, margin, levels, max_further_seeds)
        for (name, (seeds, row)), decision in zip(paired.items(), decisions, strict=True)
    ]
    return [unlearned(one, scores, least_learned) for one in found]


def unlearned(one: Comparison, scores: Scores, least: float | None) -> Comparison:
    """The comparison; its verdict is ``nothing learned`` where the means of both methods are below ``least``."""
    if not one.n or not nothing_learned((mean_of(scores[one.name]), mean_of(scores[one.baseline])), least):
        return one
    return replace(one, verdict=NOTHING_LEARNED, further_seeds=None)


def mean_of(scores: Mapping[Seed, float]) -> float:
    """Over the seeds with a finite score; NaN without any."""
    known = [score for score in scores.values() if np.isfinite(score)]
    return float(np.mean(known)) if known else float("nan")


class OpenLevels(NamedTuple):
    """What p must fall to for the next comparison to settle, under Holm's correction."""

    difference: float  # against "no difference"
    same: float  # against "the difference is at least the margin"


def levels_of_open(decisions: Iterable[Decision], alpha: float) -> OpenLevels:
    """Alpha over the number of comparisons that have not settled in that way, however they settled otherwise: what is
    ``same`` still counts among those that could differ."""
    decisions = list(decisions)
    differing = sum(decision.p_holm <= alpha for decision in decisions)
    same = sum(decision.p_same <= alpha for decision in decisions)
    return OpenLevels(*(alpha / max(1, len(decisions) - settled) for settled in (differing, same)))


def comparison_of(
    name: str,
    baseline: str,
    seeds: tuple[Seed, ...],
    row: NDArray[np.float64],
    decision: Decision,
    test: str,
    margin: float,
    levels: OpenLevels,
    max_further_seeds: int = LIMIT,
) -> Comparison:
    """A decision on the paired differences ``row`` of ``name`` from ``baseline``, with the numbers beside it.

    ``levels`` are those of :func:`levels_of_open`.
    """
    return Comparison(
        name=name,
        baseline=baseline,
        n=len(row),
        mean_difference=float(row.mean()) if len(row) else float("nan"),
        interval=decision.interval,
        p=decision.p,
        verdict=decision.verdict,
        further_seeds=_further_seeds(decision, row, test, levels, margin, max_further_seeds),
        p_holm=decision.p_holm,
        p_same=decision.p_same,
        level=decision.level,
        sd=float(row.std(ddof=1)) if len(row) > 1 else float("nan"),
        seeds=seeds,
        differences=tuple(row.tolist()),
        test=test,
        margin=margin,
        contradictory=decision.contradictory,
    )


def _partners(scores: Scores, baseline: str | Mapping[str, str]) -> dict[str, str]:
    partners = {name: baseline for name in scores if name != baseline} if isinstance(baseline, str) else dict(baseline)
    known = ", ".join(scores) or "there are none"
    for one in [baseline] if isinstance(baseline, str) else partners.values():
        if one not in scores:
            raise ValueError(f"baseline {one!r} is not among the methods ({known})")
    for name in partners:
        if name not in scores:
            raise ValueError(f"method {name!r} has a baseline but no scores ({known})")
    return partners


def _further_seeds(
    decision: Decision, row: NDArray[np.float64], test: str, levels: OpenLevels, margin: float, limit: int
) -> FurtherSeeds | None:
    """For a fixed-sample test there is no expectation: it allows no further look."""
    if test != "anytime" or decision.contradictory:
        return None
    if decision.verdict != OPEN:
        return SETTLED
    return expected_further_seeds(row, levels.difference, margin, limit, alpha_same=levels.same)


def paired_differences(
    ours: Mapping[Seed, float], theirs: Mapping[Seed, float]
) -> tuple[tuple[Seed, ...], NDArray[np.float64]]:
    """The seeds that both have a finite score for, in order, and our score minus theirs at each."""
    shared = sorted(ours.keys() & theirs.keys(), key=lambda seed: (isinstance(seed, str), seed))
    rows = [(seed, ours[seed] - theirs[seed]) for seed in shared]
    kept = [(seed, difference) for seed, difference in rows if np.isfinite(difference)]
    return tuple(seed for seed, _ in kept), np.array([difference for _, difference in kept], np.float64)
