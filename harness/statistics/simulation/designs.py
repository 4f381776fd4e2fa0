"""The adaptive sweep and its fixed-size rival, for many repetitions at once.

Verdicts are coded: 1 better, -1 worse, 2 same within the margin, 0 open.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.evidence import (
    confidence_sequence,
    log_evidence,
    running_moments,
    running_p,
    running_p_outside,
)
from harness.statistics.paired_tests import holm

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
BETTER, WORSE, SAME, OPEN = 1, -1, 2, 0


@dataclass(frozen=True)
class Outcome:
    """How the repetitions of one design ended."""

    verdicts: Codes  # (repetitions, comparisons)
    seeds: Codes  # (repetitions, methods): runs of each


class _Evidence:
    """Everything that is asked of rows of differences ``(repetitions, rows, seeds)``, at any number of seeds."""

    def __init__(self, differences: Array, alpha: float, margin: float) -> None:
        rows = differences.shape[1]
        self.alpha = alpha
        self.p = running_p(differences)
        self.outside = running_p_outside(differences, margin)
        low, high = confidence_sequence(differences, alpha / rows)
        self.contradictory = low > high
        evidence = log_evidence(differences)
        index = np.arange(differences.shape[-1])
        before = np.maximum.accumulate(np.concatenate([np.full_like(evidence[..., :1], -np.inf), evidence], -1), -1)
        strongest = np.maximum.accumulate(np.where((evidence > before[..., :-1]) & (evidence > 0), index, 0), -1)
        self.direction = np.sign(np.take_along_axis(running_moments(differences)[0], strongest, -1))

    def verdicts(self, n: Codes) -> Codes:
        """Verdicts with ``n`` seeds ``(repetitions, rows)`` of each row, corrected over all rows."""

        def at(values: NDArray[Any]) -> NDArray[Any]:
            taken: NDArray[Any] = np.take_along_axis(values, n[..., None] - 1, -1)[..., 0]
            return taken

        shown = holm(at(self.p)) <= self.alpha
        same = holm(at(self.outside)) <= self.alpha
        found = np.where(shown, at(self.direction), np.where(same, SAME, OPEN))
        codes: Codes = np.where(at(self.contradictory), OPEN, found).astype(np.int64)
        return codes


def adaptive(scores: Array, first: int = 3, alpha: float = 0.05, margin: float = 0.25) -> Outcome:
    """Goal=baseline: every open arm gets one seed a round, with the baseline; scores are ``(R, 1 + arms, seeds)``."""
    evidence = _Evidence(scores[:, 1:] - scores[:, :1], alpha, margin)
    most = scores.shape[-1]
    n = np.full((scores.shape[0], scores.shape[1] - 1), first)
    for _ in range(first, most):
        n += evidence.verdicts(n) == OPEN
    return Outcome(evidence.verdicts(n), np.concatenate([n.max(1, keepdims=True), n], 1))


def race(scores: Array, first: int = 3, alpha: float = 0.05, margin: float = 0.25) -> Outcome:
    """Goal=best over all methods; verdict 1 for the best, -1 for a dropped one, 2 same as the best, 0 open."""
    repetitions, methods, most = scores.shape
    pairs = list(combinations(range(methods), 2))
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    evidence = _Evidence(scores[:, left] - scores[:, right], alpha, margin)
    means = np.cumsum(scores, -1) / np.arange(1, most + 1)
    n = np.full((repetitions, methods), first)
    every = np.arange(repetitions)
    for last in [False] * (most - first) + [True]:
        pair_verdicts = evidence.verdicts(np.minimum(n[:, left], n[:, right]))
        dropped = np.zeros((repetitions, methods), bool)
        same = np.zeros((repetitions, methods, methods), bool)
        for i, (a, b) in enumerate(pairs):
            dropped[:, b] |= pair_verdicts[:, i] == BETTER
            dropped[:, a] |= pair_verdicts[:, i] == WORSE
            same[:, a, b] = same[:, b, a] = pair_verdicts[:, i] == SAME
        shared = np.where(dropped, most, n).min(1)
        mean = np.take_along_axis(means, np.broadcast_to(shared[:, None, None] - 1, (*n.shape, 1)), -1)[..., 0]
        leader = np.where(dropped, -np.inf, mean).argmax(1)
        verdicts = np.where(dropped, WORSE, np.where(same[every, leader], SAME, OPEN))
        verdicts[every, leader] = BETTER
        if last:
            break
        waiting = verdicts == OPEN
        waiting[every, leader] = waiting.any(1)
        target = np.where(waiting, n, 0).max(1) + 1
        n = np.where(waiting, np.minimum(target, most)[:, None], n)
    return Outcome(verdicts, n)


def fixed(scores: Array, alpha: float = 0.05) -> Outcome:
    """Paired t-tests with Holm's correction after all seeds of ``(R, 1 + arms, seeds)``; no margin."""
    return Outcome(_t_verdicts(scores[:, 1:] - scores[:, :1], alpha), np.full(scores.shape[:2], scores.shape[-1]))


def looked_at_again(scores: Array, first: int = 3, alpha: float = 0.05) -> Outcome:
    """What the anytime-valid test replaces: the t-test, with one more seed for what is not yet shown, and so on."""
    n = np.full((scores.shape[0], scores.shape[1] - 1), first)
    verdicts = np.zeros(n.shape, np.int64)
    for seeds in range(first, scores.shape[-1] + 1):
        now = _t_verdicts((scores[:, 1:] - scores[:, :1])[..., :seeds], alpha)
        n += (verdicts == OPEN) & (seeds > first)
        verdicts = np.where(verdicts == OPEN, now, verdicts)
    return Outcome(verdicts, np.concatenate([n.max(1, keepdims=True), n], 1))


def _t_verdicts(differences: Array, alpha: float) -> Codes:
    from scipy import special  # slow to import, so only where it is used

    n = differences.shape[-1]
    mean = differences.mean(-1)
    error = differences.std(-1, ddof=1) / np.sqrt(n)
    statistic = np.abs(mean) / np.where(error > 0, error, np.inf)
    p = np.where(error > 0, 2 * special.stdtr(n - 1, -statistic), np.where(mean == 0, 1.0, 0.0))
    codes: Codes = np.where(holm(p) <= alpha, np.sign(mean), OPEN).astype(np.int64)
    return codes
