"""Numbers of seeds against published tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics import paired_t_power, seeds_for_power


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_known_sample_sizes(effect: float, n: int) -> None:
    """Paired t-test, two-sided .05, power .8: the sizes that G*Power and R's power.t.test give."""
    assert seeds_for_power(effect, 1.0) == n
    assert seeds_for_power(-3 * effect, 3.0) == n
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


def test_planned_seeds_do_reach_the_power() -> None:
    n = seeds_for_power(0.9, 1.0)
    assert n is not None
    rng = np.random.default_rng(0)
    rate = (stats.ttest_1samp(rng.normal(0.9, 1, (2000, n)), 0, axis=1).pvalue <= 0.05).mean()
    assert rate > 0.8 - 3.3 * np.sqrt(0.16 / 2000)


def test_what_no_number_of_seeds_shows() -> None:
    assert seeds_for_power(0.0, 1.0) is None
    assert seeds_for_power(1e-4, 1.0) is None
    for arguments, message in (
        ({"effect": 1.0, "sd": -1.0}, "sd must be a finite number >= 0"),
        ({"effect": float("nan"), "sd": 1.0}, "effect must be a finite number"),
        ({"effect": 1.0, "sd": 1.0, "alpha": 0.0}, r"alpha must be in \(0, 1\), got 0"),
        ({"effect": 1.0, "sd": 1.0, "power": 1.0}, r"power must be in \(0, 1\), got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            seeds_for_power(**arguments)  # type: ignore[arg-type]
