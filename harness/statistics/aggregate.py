"""Scores over several data sets at once (Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice").

Scores come as one row per data set, one number per seed; rows may differ in length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = Sequence[ArrayLike]


def interquartile_mean(scores: Scores) -> float:
    """Mean of the middle half of all seeds of all data sets: less noisy than the median, and robust to outliers.

    A quarter of the values, rounded down, is cut at each end. Scores of different data sets must be comparable.
    """
    from scipy import stats  # half a second to import, so only where it is used

    return float(stats.trim_mean(np.concatenate(_rows(scores)), 0.25))


def probability_of_improvement(candidate: Scores, baseline: Scores) -> float:
    """Chance that a random seed of the candidate beats a random one of the baseline, mean over the data sets.

    A tie counts half: Mann & Whitney's U over the number of pairs (written out, because scipy.stats.mannwhitneyu also
    computes a p-value, which makes the bootstrap below ten times slower).
    """
    ours, theirs = _rows(candidate), _rows(baseline)
    if len(ours) != len(theirs):
        raise ValueError(f"candidate has {len(ours)} data sets, baseline {len(theirs)}: the same ones are needed")
    wins = [(np.sign(a[:, None] - b).mean() + 1) / 2 for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(wins))


def stratified_bootstrap(
    statistic: Callable[..., float],
    *groups: Scores,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic(*groups)`, seeds drawn anew within each data set and each group.

    For `interquartile_mean` give one group, for `probability_of_improvement` two.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level:g}")
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}")
    rng = np.random.default_rng(seed)
    rows = [_rows(group) for group in groups]
    values = [
        statistic(*[[x[rng.integers(0, len(x), len(x))] for x in group] for group in rows]) for _ in range(resamples)
    ]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _rows(scores: Scores) -> list[NDArray[np.float64]]:
    rows = [np.asarray(row, np.float64) for row in scores]
    if not rows or any(row.ndim != 1 or not len(row) or not np.isfinite(row).all() for row in rows):
        raise ValueError("scores must be one row of finite numbers per data set, none empty")
    return rows
