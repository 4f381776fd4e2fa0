"""Numbers of seeds against published tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics.comparison import (
    paired_t_power,
    paired_t_test,
    seeds_for_power,
    sign_flip_power,
    sign_flip_test,
)


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_known_sample_sizes(effect: float, n: int) -> None:
    """Paired t-test, two-sided .05, power .8: the sizes that G*Power and R's power.t.test give."""
    assert seeds_for_power(effect, 1.0, test="t") == n
    assert seeds_for_power(-3 * effect, 3.0, test="t") == n
    assert paired_t_power(n, effect, 1.0) >= 0.8 > paired_t_power(n - 1, effect, 1.0)


def test_power_is_the_level_without_an_effect_and_grows() -> None:
    assert paired_t_power(7, 0.0, 1.0, 0.03) == pytest.approx(0.03, abs=1e-9)
    powers = [paired_t_power(n, 0.4, 1.0) for n in [*range(2, 200), 1000, 3000, 5000, 10_000]]
    assert (np.diff(powers) > -1e-9).all()
    assert powers[-1] == 1.0
    assert paired_t_power(1, 1.0, 1.0) == 0.0
    assert paired_t_power(4, 1.0, 0.0) == 1.0


@pytest.mark.parametrize("n", [2, 5, 12])
def test_t_power_equals_an_integral_over_the_spread(n: int) -> None:
    """P(T < c) = E[Phi(c s - shift)] with s the estimated over the true standard deviation."""
    u = (np.arange(400_000) + 0.5) / 400_000
    s = np.sqrt(stats.chi2.ppf(u, n - 1) / (n - 1))
    c, shift = stats.t.ppf(0.975, n - 1), 0.7 * np.sqrt(n)
    expected = 1 - stats.norm.cdf(c * s - shift).mean() + stats.norm.cdf(-c * s - shift).mean()
    assert paired_t_power(n, 0.7, 1.0) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("n", "effect"), [(6, 1.2), (8, 1.0), (12, 0.8), (16, 0.7)])
def test_sign_flip_power_equals_simulation(n: int, effect: float) -> None:
    rng = np.random.default_rng(n)
    runs = 1500
    rate = np.mean([sign_flip_test(rng.normal(effect, 1, n)) <= 0.05 for _ in range(runs)])
    assert sign_flip_power(n, effect, 1.0) == pytest.approx(rate, abs=3.3 * np.sqrt(0.25 / runs + 0.25 / 2000))


def test_sign_flip_needs_at_least_six() -> None:
    assert sign_flip_power(5, 100.0, 1.0) == 0.0
    assert seeds_for_power(100.0, 1.0) == 6
    assert seeds_for_power(100.0, 1.0, alpha=0.05 / 3) == 7
    assert seeds_for_power(100.0, 0.0) == 6
    assert seeds_for_power(1.5, 1.0) == 7  # the t-test would do with 6
    assert seeds_for_power(0.2, 1.0) == 199


def test_planned_seeds_do_reach_the_power() -> None:
    n = seeds_for_power(0.9, 1.0, test="t")
    assert n is not None
    rng = np.random.default_rng(0)
    rate = np.mean([paired_t_test(rng.normal(0.9, 1, n)) <= 0.05 for _ in range(2000)])
    assert rate > 0.8 - 3.3 * np.sqrt(0.16 / 2000)


def test_what_no_number_of_seeds_shows() -> None:
    assert seeds_for_power(0.0, 1.0) is None
    assert seeds_for_power(1e-4, 1.0) is None
    for arguments, message in (
        ({"effect": 1.0, "sd": -1.0}, "sd must be a finite number >= 0"),
        ({"effect": float("nan"), "sd": 1.0}, "effect must be a finite number"),
        ({"effect": 1.0, "sd": 1.0, "test": "z"}, "test must be one of sign_flip, t, got 'z'"),
        ({"effect": 1.0, "sd": 1.0, "alpha": 0.0}, r"alpha must be in \(0, 1\), got 0"),
        ({"effect": 1.0, "sd": 1.0, "power": 1.0}, r"power must be in \(0, 1\), got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            seeds_for_power(**arguments)  # type: ignore[arg-type]
