"""The e-process against its formula, its inversion, and naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.statistics import confidence_sequence, fewest_seeds, log_evidence, running_p, running_p_outside
from harness.statistics.evidence import EFFECT_VARIANCE as G
from harness.statistics.evidence import intervals_alone


def formula(d: list[float], g: float) -> float:
    """The published formula, for one n."""
    n, s, v = len(d), sum(d), sum(x * x for x in d)
    return -0.5 * math.log(1 + n * g) - n / 2 * math.log(1 - g * s * s / ((1 + n * g) * v))


def test_evidence_is_the_published_formula() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 12)
    expected = [formula(list(d[: n + 1]), G) for n in range(12)]
    np.testing.assert_allclose(log_evidence(d), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(log_evidence(d, 0.2), [formula(list(d[: n + 1] - 0.2), G) for n in range(12)], atol=1e-9)


def test_evidence_is_a_ratio_of_integrated_likelihoods() -> None:
    """Numerator: effect ~ N(0, g), spread ~ 1/sigma; denominator: effect 0, spread ~ 1/sigma; on a grid."""
    d = np.array([0.4, 1.1, -0.2, 0.9])
    log_sigma = np.linspace(-6, 6, 2001)[:, None]
    effect = np.linspace(-14, 14, 2801)
    sigma = np.exp(log_sigma)
    log_like = sum(-0.5 * (x / sigma - effect) ** 2 - log_sigma for x in d)
    prior = np.exp(-0.5 * effect**2 / G) / math.sqrt(2 * math.pi * G)
    numerator = (np.exp(log_like) * prior).sum() * (effect[1] - effect[0])
    denominator = np.exp(sum(-0.5 * (x / sigma) ** 2 - log_sigma for x in d)).sum()
    assert log_evidence(d)[-1] == pytest.approx(math.log(numerator / denominator), rel=1e-6)


def test_running_p_and_scale() -> None:
    rng = np.random.default_rng(1)
    d = rng.normal(1, 1, (3, 20))
    p = running_p(d)
    assert p.shape == (3, 20)
    assert (p[:, 0] == 1).all()  # one difference says nothing
    assert (np.diff(p) <= 0).all()
    np.testing.assert_allclose(running_p(-1e-6 * d), p)  # neither unit nor direction matter
    np.testing.assert_allclose(running_p(1e6 + 1e-3 * d, 1e6), p, rtol=1e-4)
    np.testing.assert_allclose(p[1], running_p(d[1]))


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 12])
def test_the_interval_is_the_set_of_means_not_rejected(alpha: float) -> None:
    d = np.random.default_rng(2).normal(0.3, 1, 15)
    low, high = intervals_alone(d, alpha)
    least = fewest_seeds(alpha)
    assert np.isinf(low[: least - 1]).all()
    assert np.isfinite(high[least - 1 :]).all()
    for n in range(least - 1, 15):
        for end in (low[n], high[n]):
            assert log_evidence(d, end)[n] == pytest.approx(-math.log(alpha), rel=1e-6)
        assert log_evidence(d, (low[n] + high[n]) / 2)[n] < -math.log(alpha)
    sequence_low, sequence_high = confidence_sequence(d, alpha)
    np.testing.assert_array_equal(sequence_low, [low[: n + 1].max() for n in range(15)])
    np.testing.assert_array_equal(sequence_high, [high[: n + 1].min() for n in range(15)])


def test_p_outside_the_margin_agrees_with_the_confidence_sequence() -> None:
    rng = np.random.default_rng(3)
    d = rng.normal(0.1, 1, (200, 30))
    for alpha in (0.05, 0.01):
        low, high = confidence_sequence(d, alpha)
        inside = (low > -0.9) & (high < 0.9)
        np.testing.assert_array_equal(running_p_outside(d, 0.9) <= alpha, inside)
    assert 0 < inside[:, -1].mean() < 1


@pytest.mark.parametrize(("alpha", "least"), [(0.05, 4), (0.05 / 4, 5), (0.05 / 12, 5)])
def test_fewest_seeds(alpha: float, least: int) -> None:
    assert fewest_seeds(alpha) == least
    assert running_p(np.full(least, 0.1))[-1] <= alpha < running_p(np.full(least - 1, 0.1))[-1]


def test_equal_and_zero_differences() -> None:
    zeros = np.zeros(5)
    np.testing.assert_array_equal(running_p(zeros), 1)
    low, high = confidence_sequence(zeros)
    np.testing.assert_array_equal(low, [-np.inf] * 3 + [0, 0])
    np.testing.assert_array_equal(high, [np.inf] * 3 + [0, 0])
    assert running_p_outside(zeros, 0.005)[-1] < 0.05
    equal = np.full(5, 0.3)
    n = np.arange(1, 6)
    np.testing.assert_allclose(log_evidence(equal), (n - 1) / 2 * np.log1p(n * G))
    assert [end[-1] for end in confidence_sequence(equal)] == [0.3, 0.3]


def ever_false(differences: np.ndarray, alpha: float = 0.05) -> float:
    return float((running_p(differences)[:, -1] <= alpha).mean())


def test_ever_false_at_most_alpha_over_all_looks() -> None:
    """4,000 nulls with 100 looks each; the t-test looked at as often is wrong several times as often."""
    rng = np.random.default_rng(4)
    z = rng.standard_normal((4000, 100))
    rate = ever_false(z)
    assert 0.02 < rate < 0.05
    low, high = confidence_sequence(z + 7)
    assert 0.95 < ((low <= 7) & (high >= 7)).all(1).mean() < 0.98
    assert ever_false(rng.standard_t(3, (4000, 100))) < 0.05
