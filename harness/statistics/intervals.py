"""Intervals for the mean of a number of seeds that was fixed beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Interval = tuple[float, float]
UNKNOWN: Interval = (float("nan"), float("nan"))


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of the mean; exact for normal values from n = 2 on, NaN below."""
    x = _values(values, level)
    if len(x) < 2:
        return UNKNOWN
    from scipy import stats  # half a second to import, so only where it is used

    half = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean() - half), float(x.mean() + half)


def bca_interval(
    values: ArrayLike,
    level: float = 0.95,
    resamples: int = 9_999,
    seed: int = 0,
    statistic: Callable[..., Any] = np.mean,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987; ``scipy.stats.bootstrap``).

    `statistic` takes an array and `axis`. The bootstrap only knows the spread that it has seen, so with few values it
    is too narrow: asked for 95 %, it covers a normal mean in 74 % of cases at n = 3, 84 % at 5, 90 % at 10 (simulated;
    see the test). Below 10 seeds use `t_interval`. NaN below 2 values.
    """
    x = _values(values, level)
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}")
    if len(x) < 2:
        return UNKNOWN
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    from scipy import stats

    found = stats.bootstrap(
        (x,),
        statistic,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _values(values: ArrayLike, level: float) -> NDArray[np.float64]:
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not np.isfinite(x).all():
        raise ValueError("values must be one row of finite numbers")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level:g}")
    return x
