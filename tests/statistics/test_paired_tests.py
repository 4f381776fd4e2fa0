"""The tests of paired differences against closed forms, enumeration and scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from harness.statistics import holm, paired_t_test, sign_flip_floor, sign_flip_test


@pytest.mark.parametrize("n", [1, 2, 3, 6, 9])
def test_sign_flip_equals_enumeration(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n)
    sums = [abs(np.dot(signs, d)) for signs in product([1, -1], repeat=n)]
    assert sign_flip_test(d) == pytest.approx(np.mean([s >= abs(d.sum()) - 1e-12 for s in sums]))


@pytest.mark.parametrize("n", [2, 3, 5, 6, 10, 20])
def test_the_least_p_is_two_of_all_patterns(n: int) -> None:
    assert sign_flip_test(np.arange(1.0, n + 1)) == sign_flip_floor(n) == 2 / 2**n
    assert sign_flip_test(-np.arange(1.0, n + 1)) == 2 / 2**n


def test_five_seeds_cannot_reach_five_percent_and_six_can() -> None:
    assert sign_flip_floor(5) == 0.0625
    assert sign_flip_floor(6) == 0.03125


def test_sign_flip_special_cases() -> None:
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1.0
    assert sign_flip_test([0.1, -0.1]) == 1.0
    # .1 + .2 is not .3 in floating point: the pattern that reaches the observed sum must still be counted
    assert sign_flip_test([0.1, 0.2, 0.3, 0.0]) == 0.25
    assert np.isnan(sign_flip_test([]))
    with pytest.raises(ValueError, match="one row of finite numbers"):
        sign_flip_test([1.0, float("nan")])


@pytest.mark.parametrize("n", [2, 6, 9])
def test_sign_flip_equals_scipy(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n)
    theirs = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=2**n)
    assert sign_flip_test(d) == pytest.approx(theirs.pvalue)


def test_random_signs_agree_with_enumeration() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 24)
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate([sums + value, sums - value])
    exact = float((np.abs(sums) >= abs(d.sum()) - 1e-9).mean())
    margin = 4 * np.sqrt(exact * (1 - exact) / 99_999)
    assert sign_flip_test(d) == pytest.approx(exact, abs=margin)
    assert sign_flip_test(d) == sign_flip_test(d)


def test_random_signs_never_give_zero() -> None:
    assert sign_flip_test(np.ones(40), draws=999) == pytest.approx(1 / 1000)


def test_t_special_cases() -> None:
    assert np.isnan(paired_t_test([1.0]))
    assert paired_t_test([0.0, 0.0]) == 1.0
    assert paired_t_test([0.5, 0.5, 0.5]) == 0.0
    # closed form with one degree of freedom (Cauchy): mean 1, standard error 1, so p = 1 - 2 atan(1) / pi = 1/2
    assert paired_t_test([0.0, 2.0]) == pytest.approx(0.5)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert holm([]).shape == (0,)
    batch = np.array([[0.01, 0.04, 0.03], [0.5, np.nan, 0.02]])
    np.testing.assert_allclose(holm(batch), [holm(row) for row in batch])
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        holm([0.5, 1.5])


def test_holm_keeps_the_familywise_level() -> None:
    rng = np.random.default_rng(1)
    runs = 4000
    false = sum((holm(rng.random(6)) <= 0.05).any() for _ in range(runs)) / runs
    assert abs(false - 0.05) < 3.3 * np.sqrt(0.05 * 0.95 / runs)  # 6 independent nulls: 1 - (1 - .05/6)^6 = .049
