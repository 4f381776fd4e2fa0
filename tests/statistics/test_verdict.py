"""Verdicts: right in words, and under a simulated null at 3, 5 and 10 seeds not false more often than the level."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from harness.statistics.comparison import (
    BETTER,
    NO_DIFFERENCE_SHOWN,
    NOT_ENOUGH_SEEDS,
    WORSE,
    compare_to_baseline,
    decide,
)

Noise = Callable[[np.random.Generator, int], np.ndarray]
NOISES: dict[str, Noise] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.gamma(0.5, 1, n),
    "heavy": lambda rng, n: rng.standard_t(2, n),
}
RUNS = 3000
MARGIN = 3.3 * np.sqrt(0.05 * 0.95 / RUNS)  # a right level of .05 fails one such check in two thousand


def false_rate(n: int, methods: int, noise: Noise, test: str) -> float:
    """Share of sweeps with any better or worse although all methods are the same, with a shared effect of the seed."""
    rng = np.random.default_rng(1000 * n + methods)
    false = 0
    for _ in range(RUNS):
        seed_effect, baseline = rng.normal(size=n), noise(rng, n)
        rows = [(seed_effect + noise(rng, n)) - (seed_effect + baseline) for _ in range(methods)]
        false += any(decision.verdict in (BETTER, WORSE) for decision in decide(rows, test=test))
    return false / RUNS


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("methods", [1, 3])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_verdicts_stay_at_the_level(n: int, methods: int, noise: str) -> None:
    rate = false_rate(n, methods, NOISES[noise], "sign_flip")
    assert rate <= 0.05 + MARGIN
    if n <= 5:
        assert rate == 0  # it says that it cannot know
    elif methods == 1:
        assert rate >= 0.05 - MARGIN  # and at 10 seeds it is not timid


@pytest.mark.parametrize("methods", [1, 3])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_verdicts_of_the_t_test_stay_at_the_level_with_normal_noise(n: int, methods: int) -> None:
    assert false_rate(n, methods, NOISES["normal"], "t") <= 0.05 + MARGIN


@pytest.mark.parametrize("n", [2, 3, 5])
def test_with_five_seeds_or_fewer_it_cannot_know(n: int) -> None:
    (decision,) = decide([np.full(n, 0.1) + np.arange(n) * 1e-3])
    assert decision.p == 2 / 2**n
    assert decision.verdict == NOT_ENOUGH_SEEDS
    assert np.isnan(decision.p_holm)


def test_verdicts() -> None:
    up = [0.01, 0.02, 0.03, 0.01, 0.02, 0.02]
    mixed = [0.01, -0.02, 0.03, -0.01, 0.02, -0.02]
    (decision,) = decide([up])
    assert (decision.p, decision.verdict) == (0.03125, BETTER)
    assert decide([np.negative(up)])[0].verdict == WORSE
    assert decide([up], higher_is_better=False)[0].verdict == WORSE
    assert decide([mixed])[0].verdict == NO_DIFFERENCE_SHOWN
    # Two comparisons at 6 seeds: even the least p is .0625 after Holm, so there are not enough seeds for two.
    assert [d.verdict for d in decide([up, mixed])] == [NOT_ENOUGH_SEEDS, NOT_ENOUGH_SEEDS]
    # A comparison too short to show anything takes no part in the correction.
    assert [d.verdict for d in decide([up, [0.1, 0.1]])] == [BETTER, NOT_ENOUGH_SEEDS]
    assert [d.verdict for d in decide([up * 2, mixed * 2])] == [BETTER, NO_DIFFERENCE_SHOWN]
    assert decide([[0.1, 0.101, 0.102]], test="t")[0].verdict == BETTER
    assert decide([[0.1, 0.101]], test="t")[0].verdict == NOT_ENOUGH_SEEDS
    assert decide([]) == []


def test_comparison_with_a_baseline() -> None:
    rng = np.random.default_rng(0)
    seeds = range(8)
    base = {seed: 0.5 + 0.05 * rng.normal() for seed in seeds}  # seeds differ more than methods: pairing is the point
    good = {seed: base[seed] + 0.02 + 0.005 * rng.normal() for seed in seeds}
    equal = {seed: base[seed] + 0.01 * rng.normal() for seed in seeds}
    short = {seed: base[seed] + 0.02 + 0.005 * rng.normal() for seed in (2, 0, 11)} if 11 in base else {2: 0.9, 11: 0.1}
    failed = good | {3: float("nan")}
    rows = compare_to_baseline(
        {"random": base, "good": good, "equal": equal, "short": short, "failed": failed}, "random", resamples=999
    )
    by_name = {row.name: row for row in rows}
    assert list(by_name) == ["good", "equal", "short", "failed"]
    row = by_name["good"]
    assert (row.baseline, row.n, row.verdict, row.seeds_needed) == ("random", 8, BETTER, 0)
    assert row.mean_difference == pytest.approx(np.mean([good[s] - base[s] for s in seeds]))
    assert row.interval[0] > 0
    assert row.bootstrap_interval[0] > row.interval[0]
    assert row.p == 2 / 2**8
    assert row.p_holm == 3 * row.p
    assert row.seeds == tuple(seeds)
    assert by_name["failed"].n == 7
    assert 3 not in by_name["failed"].seeds
    assert by_name["equal"].verdict == NO_DIFFERENCE_SHOWN
    assert by_name["equal"].seeds_needed is None or by_name["equal"].seeds_needed > 0
    lonely = by_name["short"]
    assert (lonely.n, lonely.verdict, lonely.seeds_needed) == (1, NOT_ENOUGH_SEEDS, None)
    assert lonely.mean_difference == pytest.approx(0.9 - base[2])
    for comparison in rows:
        assert json.loads(json.dumps(comparison.to_dict(), allow_nan=False))["name"] == comparison.name


def test_seeds_needed() -> None:
    base = dict.fromkeys(range(3), 0.5)
    ours = {0: 0.52, 1: 0.53, 2: 0.51}  # mean .02, standard deviation .01
    (row,) = compare_to_baseline({"a": base, "b": ours}, "a")
    assert row.verdict == NOT_ENOUGH_SEEDS
    assert row.seeds_needed == 6 - 3
    (row,) = compare_to_baseline({"a": base, "b": ours}, "a", effect=0.005)
    assert row.seeds_needed == 34 - 3  # effect .5 standard deviations
    (row,) = compare_to_baseline({"a": base, "b": ours}, "a", test="t", effect=0.005)
    assert row.verdict == NO_DIFFERENCE_SHOWN  # p = .074
    assert row.seeds_needed == 34 - 3
    (row,) = compare_to_baseline({"a": base, "b": dict(base)}, "a")
    assert row.seeds_needed is None


def test_without_common_seeds() -> None:
    (row,) = compare_to_baseline({"a": {0: 0.1}, "b": {1: 0.2}}, "a")
    assert (row.n, row.verdict, row.seeds, row.differences) == (0, NOT_ENOUGH_SEEDS, (), ())
    assert row.to_dict()["mean_difference"] is None


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"baseline 'ohem' is not among the methods \(a\)"):
        compare_to_baseline({"a": {0: 0.1}}, "ohem")
    with pytest.raises(ValueError, match="test must be one of sign_flip, t, got 'wilcoxon'"):
        decide([[0.1]], test="wilcoxon")
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 5"):
        decide([[0.1]], alpha=5)
