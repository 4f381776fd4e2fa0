"""Intervals against scipy and by simulated coverage; aggregates against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import (
    bca_interval,
    interquartile_mean,
    probability_of_improvement,
    stratified_bootstrap,
    t_interval,
)


def test_t_interval_equals_scipy() -> None:
    x = np.random.default_rng(0).normal(1, 2, 5)
    expected = stats.t.interval(0.9, 4, loc=x.mean(), scale=stats.sem(x))
    np.testing.assert_allclose(t_interval(x, 0.9), expected)
    assert np.isnan(t_interval([1.0])).all()
    assert t_interval([2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_bca_equals_scipy(statistic: object) -> None:
    x = np.random.default_rng(1).gamma(2, 1, 25)
    ours = bca_interval(x, 0.95, resamples=20_000, statistic=statistic)  # type: ignore[arg-type]
    theirs = stats.bootstrap(
        (x,), statistic, confidence_level=0.95, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose(ours, [theirs.low, theirs.high], atol=0.06)  # the standard error of x is .24
    plain = np.quantile(x[np.random.default_rng(3).integers(0, 25, (20_000, 25))].mean(1), [0.025, 0.975])
    if statistic is np.mean:
        assert ours[1] > plain[1]  # skewed to the right: the correction moves the upper end out
        assert ours[0] > plain[0]


def test_bca_special_cases() -> None:
    assert bca_interval([3.0, 3.0, 3.0]) == (3.0, 3.0)
    assert np.isnan(bca_interval([3.0])).all()
    assert bca_interval([1.0, 2.0, 4.0]) == bca_interval([1.0, 2.0, 4.0])
    low, high = bca_interval([0.0, 1.0])
    assert 0 <= low <= high <= 1
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 1"):
        bca_interval([1.0, 2.0], level=1)
    with pytest.raises(ValueError, match="resamples must be >= 1, got 0"):
        bca_interval([1.0, 2.0], resamples=0)


@pytest.mark.parametrize(("n", "bca_covers"), [(3, 0.74), (5, 0.84), (10, 0.90)])
def test_coverage_is_what_the_docstrings_say(n: int, bca_covers: float) -> None:
    """400 simulated normal samples; margin 3.3 binomial standard errors (and one point for the stated rounding)."""
    rng = np.random.default_rng(n)
    runs = 400
    samples = rng.normal(size=(runs, n))
    by_t = sum(low <= 0 <= high for low, high in map(t_interval, samples)) / runs
    by_bca = sum(low <= 0 <= high for low, high in (bca_interval(x, resamples=299) for x in samples)) / runs
    assert by_t == pytest.approx(0.95, abs=3.3 * np.sqrt(0.95 * 0.05 / runs))
    assert by_bca == pytest.approx(bca_covers, abs=0.01 + 3.3 * np.sqrt(bca_covers * (1 - bca_covers) / runs))


def test_interquartile_mean() -> None:
    assert interquartile_mean([[100.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, -100.0]]) == pytest.approx(3.5)
    rng = np.random.default_rng(0)
    scores = rng.random((5, 7))
    assert interquartile_mean(list(scores)) == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
    assert interquartile_mean([[0.3]]) == 0.3


def test_probability_of_improvement() -> None:
    assert probability_of_improvement([[2.0, 3.0], [1.0]], [[1.0, 2.0], [1.0]]) == pytest.approx((3.5 / 4 + 0.5) / 2)
    rng = np.random.default_rng(1)
    a, b = rng.random(6), rng.random(8)
    u = stats.mannwhitneyu(a, b).statistic
    assert probability_of_improvement([a], [b]) == pytest.approx(u / 48)
    # normal scores one standard deviation apart: Phi(1 / sqrt 2)
    a, b = rng.normal(1, 1, 4000), rng.normal(0, 1, 4000)
    assert probability_of_improvement([a], [b]) == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.02)
    with pytest.raises(ValueError, match="candidate has 1 data sets, baseline 2"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]])


def test_stratified_bootstrap_draws_within_each_data_set() -> None:
    # One seed a data set cannot vary, however different the data sets are.
    assert stratified_bootstrap(interquartile_mean, [[1.0], [5.0], [9.0]], resamples=50) == (5.0, 5.0)
    rng = np.random.default_rng(2)
    rows = [rng.normal(size=30) for _ in range(3)]
    low, high = stratified_bootstrap(lambda scores: float(np.mean(scores)), rows, resamples=4000)
    error = np.sqrt(sum(row.var() / 30 for row in rows)) / 3
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)
    low, high = stratified_bootstrap(probability_of_improvement, [row + 3 for row in rows], rows, resamples=200)
    assert 0.9 < low <= high <= 1
    with pytest.raises(ValueError, match="none empty"):
        interquartile_mean([[]])
