"""Intervals for a mean over few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Interval = tuple[float, float]


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of the mean: covers at its level from n = 2 on if the values are normal. NaN below 2."""
    x = _values(values, level)
    if len(x) < 2:
        return float("nan"), float("nan")
    half = special.stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean() - half), float(x.mean() + half)


def bca_interval(
    values: ArrayLike,
    level: float = 0.95,
    resamples: int = 9_999,
    seed: int = 0,
    statistic: Callable[..., Any] = np.mean,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987; Efron & Tibshirani 1993, section 14.3).

    `statistic` takes an array and `axis`. The bootstrap only knows the spread that it has seen, so with few values it
    is too narrow: asked for 95 %, it covers a normal mean in 74 % of cases at n = 3, 84 % at 5, 90 % at 10 (simulated;
    see the test). Below 10 seeds trust `t_interval`. NaN below 2 values.
    """
    x = _values(values, level)
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}")
    n = len(x)
    if n < 2:
        return float("nan"), float("nan")
    estimate = float(statistic(x, axis=-1))
    rng = np.random.default_rng(seed)
    boot = np.asarray(statistic(x[rng.integers(0, n, (resamples, n))], axis=-1))
    if np.ptp(boot) == 0:
        return estimate, estimate
    below = ((boot < estimate).mean() + (boot <= estimate).mean()) / 2
    bias = special.ndtri(np.clip(below, 1 / (resamples + 1), resamples / (resamples + 1)))
    z = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    places = special.ndtr(bias + z / (1 - _acceleration(x, statistic) * z))
    low, high = np.quantile(boot, places)
    return float(low), float(high)


def _acceleration(x: NDArray[np.float64], statistic: Callable[..., Any]) -> float:
    """Skewness of the jackknife values over 6."""
    left_out = np.stack([np.delete(x, i) for i in range(len(x))])
    jackknife = np.asarray(statistic(left_out, axis=-1))
    deviation = jackknife.mean() - jackknife
    spread = (deviation**2).sum() ** 1.5
    return float((deviation**3).sum() / (6 * spread)) if spread > 0 else 0.0


def _values(values: ArrayLike, level: float) -> NDArray[np.float64]:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values must be one row of finite numbers")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level:g}")
    return x
