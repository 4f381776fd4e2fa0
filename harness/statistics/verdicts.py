"""From rows of paired differences to verdicts: better, worse, same within the margin, or open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.statistics.evidence import confidence_sequence, fewest_seeds, intervals_alone, running_p, running_p_outside
from harness.statistics.intervals import UNKNOWN, Interval, t_interval
from harness.statistics.paired_tests import holm, paired_t_test, sign_flip_floor, sign_flip_test

BETTER, WORSE, SAME, OPEN = "better", "worse", "same within ±margin", "open"
TESTS = ("anytime", "t", "sign_flip")
ALPHA = 0.05
MARGIN = 0.005  # mAP as a fraction: the smallest difference worth having
MIN_SEEDS_OF_T = 3  # two differences say next to nothing about their own spread

Row = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """What the test says about one row of differences, among all rows that are decided together."""

    p: float  # two-sided, against "no difference"; NaN where the test has no p yet
    p_holm: float  # the same after Holm's correction; NaN where the row was too short to be tested
    p_same: float  # against "the difference is at least the margin", after Holm's correction; NaN where not tested
    interval: Interval  # of the mean difference, at `level`
    level: float  # 1 - alpha / number of rows: all intervals together hold with probability 1 - alpha
    verdict: str  # better | worse | same within ±margin | open
    contradictory: bool = False  # the intervals of the first seeds and of the later ones exclude each other


def verdict_text(verdict: str, margin: float) -> str:
    """The verdict with the margin as a number: ``same within ±0.005``."""
    return SAME.replace("margin", f"{margin:g}") if verdict == SAME else verdict


def decide(
    differences: Sequence[ArrayLike],
    *,
    alpha: float = ALPHA,
    margin: float = MARGIN,
    test: str = "anytime",
    higher_is_better: bool = True,
) -> list[Decision]:
    """Judge several rows of paired differences together; each row is in the order of its seeds.

    A row is ``better`` or ``worse`` if its p against "no difference" is at most alpha after Holm's correction over all
    rows; else ``same within ±margin`` if its p against "the difference is at least the margin" is, corrected in the
    same way; else ``open``. So the probability of any false ``better`` or ``worse`` is at most alpha, and that of any
    false ``same within ±margin``, too.
    With ``test="anytime"`` (running p of the e-process) this holds over all looks together, however often and for
    whatever reason seeds are added. With ``t`` and ``sign_flip`` it holds for one look at a number of seeds that was
    fixed beforehand; rows too short for the test to show anything are then left out of the correction.

    Holm's correction over running p-values needs nothing but Ville's inequality for each row, so rows may share a
    baseline. (A closed test on averages of the e-values would be stronger if they were e-values at joint stopping
    times. They are not: each is one only for those who look at nothing but its own differences, up to scale.)

    Raises ValueError for an unknown test, alpha outside (0, 1), a negative margin or a number that is not finite.
    """
    _check(alpha, margin, test)
    rows = [_row(row) for row in differences]
    if not rows:
        return []
    tested = [test == "anytime" or _floor(len(row), test) <= alpha for row in rows]
    p = np.array([_p_value(row, test) for row in rows])
    adjusted = holm(np.where(tested, p, np.nan))
    same = holm([_p_outside(row, margin, test) if ok else np.nan for row, ok in zip(rows, tested, strict=True)])
    level = 1 - alpha / len(rows)
    decisions = []
    for i, row in enumerate(rows):
        interval, contradictory = _interval(row, level, test)
        if contradictory:
            verdict = OPEN
        elif adjusted[i] <= alpha:
            verdict = BETTER if (_direction(row, test) > 0) == higher_is_better else WORSE
        else:
            verdict = SAME if same[i] <= alpha else OPEN
        numbers = (float(p[i]), float(adjusted[i]), float(same[i]))
        decisions.append(Decision(*numbers, interval, level, verdict, contradictory))
    return decisions


def fewest_pairs(comparisons: int, test: str = "anytime", alpha: float = ALPHA) -> int:
    """The paired seeds with which the test can show one of so many comparisons, Holm's correction at its strictest."""
    if test == "anytime":
        return fewest_seeds(alpha / comparisons)
    return next(n for n in range(1, 1_000) if _floor(n, test) <= alpha / comparisons)


def _p_value(row: Row, test: str) -> float:
    if test == "anytime":
        return float(running_p(row)[-1]) if len(row) else 1.0
    if len(row) < 2:
        return float("nan")
    return sign_flip_test(row) if test == "sign_flip" else paired_t_test(row)


def _p_outside(row: Row, margin: float, test: str) -> float:
    """p against "the true mean difference is at least the margin in size"."""
    if test == "anytime":
        return float(running_p_outside(row, margin)[-1]) if len(row) else 1.0
    if abs(row.mean()) >= margin:
        return 1.0
    return max(_p_value(row - margin, test), _p_value(row + margin, test))


def _direction(row: Row, test: str) -> float:
    """The sign of the difference that the evidence has shown."""
    if test != "anytime":
        return float(row.mean())
    n = int(running_p(row).argmin()) + 1  # where the evidence was strongest
    return float(row[:n].mean())


def _interval(row: Row, level: float, test: str) -> tuple[Interval, bool]:
    if test != "anytime":
        return t_interval(row, level), False
    if not len(row):
        return UNKNOWN, False
    low, high = (float(end[-1]) for end in confidence_sequence(row, 1 - level))
    if low <= high:
        return (low, high), False
    low, high = (float(end[-1]) for end in intervals_alone(row, 1 - level))
    return (low, high), True


def _floor(n: int, test: str) -> float:
    """The least p that n differences can give."""
    if test == "t":
        return 0.0 if n >= MIN_SEEDS_OF_T else 1.0
    return sign_flip_floor(n) if n else 1.0


def _row(values: ArrayLike) -> Row:
    row = np.asarray(values, np.float64)
    if row.ndim != 1 or not np.isfinite(row).all():
        raise ValueError("differences must be one row of finite numbers")
    return row


def _check(alpha: float, margin: float, test: str) -> None:
    if test not in TESTS:
        raise ValueError(f"test must be one of {', '.join(TESTS)}, got {test!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha:g}")
    if not (margin >= 0 and np.isfinite(margin)):
        raise ValueError(f"margin must be a finite number >= 0, got {margin:g}")
