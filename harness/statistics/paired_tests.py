"""Tests of paired differences for one look at a fixed number of seeds, and Holm's correction for several comparisons.

The p-values of `paired_t_test` and `sign_flip_test` are valid for one look at a number of seeds that was fixed
beforehand. Whoever adds seeds and looks again needs the running p of `harness.statistics.evidence`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Sums of all sign patterns by doubling: 20 differences take 10 ms. scipy.stats.permutation_test gives the same p, but
# takes 1.2 s for 16 differences.
ENUMERATED_UP_TO = 20


def sign_flip_test(differences: ArrayLike, draws: int = 99_999, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test on the mean (Fisher 1935, section 21).

    Assumes only that under the null each difference is as likely to be x as -x, which holds whatever the distribution
    if the two methods of a pair can be swapped. Exact for up to 20 differences; beyond, `draws` random sign patterns
    with the +1 of Phipson & Smyth 2010, so that p is never 0. NaN without differences.
    """
    d = _differences(differences)
    if not len(d):
        return float("nan")
    observed = abs(d.sum()) - 1e-12 * np.abs(d).sum()  # equal sums differ by rounding; they count as reached
    if len(d) <= ENUMERATED_UP_TO:
        sums = d[:1]
        for value in d[1:]:  # the first sign stays: flipping all signs leaves |sum| as it was
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    reached, block = 0, 10_000
    for start in range(0, draws, block):
        signs = rng.integers(0, 2, (min(block, draws - start), len(d))) * 2 - 1
        reached += int((np.abs(signs @ d) >= observed).sum())
    return (reached + 1) / (draws + 1)


def sign_flip_floor(n: int) -> float:
    """The least p that the sign-flip test can give with n pairs: two of the 2^n patterns. .0625 at 5, .03125 at 6."""
    return float("nan") if n < 1 else 2.0 ** (1 - n)


def paired_t_test(differences: ArrayLike) -> float:
    """Two-sided p of Student's paired t-test: exact at any n >= 2 if the differences are normal. NaN below 2."""
    d = _differences(differences)
    if len(d) < 2:
        return float("nan")
    if np.ptp(d) == 0:
        return 1.0 if d[0] == 0 else 0.0
    from scipy import stats  # half a second to import, so only where it is used

    return float(stats.ttest_1samp(d, 0).pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p adjusted for several comparisons (Holm 1979): the chance of *any* false finding stays at the level.

    Works along the last axis, in the order given; NaN (not tested) stays NaN and does not count as a comparison. It
    holds under any dependence between the comparisons, and for running p-values at any time.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim < 1 or (p < 0).any() or (p > 1).any():
        raise ValueError(f"p_values must be rows of numbers in [0, 1], got {p.tolist()}")
    order = np.argsort(p, -1, kind="stable")  # NaN comes last
    ordered = np.take_along_axis(p, order, -1)
    factors = (~np.isnan(p)).sum(-1, keepdims=True) - np.arange(p.shape[-1])
    scaled = np.minimum(np.maximum.accumulate(factors * ordered, -1), 1.0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, scaled, -1)
    return adjusted


def _differences(values: ArrayLike) -> NDArray[np.float64]:
    d = np.asarray(values, np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise ValueError("differences must be one row of finite numbers")
    return d
