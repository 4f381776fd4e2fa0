"""Tests of paired differences, and Holm's correction when there are several of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

ENUMERATED_UP_TO = 20  # 2^19 sums take 10 ms; beyond, random signs


def sign_flip_test(differences: ArrayLike, draws: int = 99_999, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test on the mean (Fisher 1935, section 21).

    Assumes only that under the null each difference is as likely to be x as -x, which swapping the two methods of a
    pair guarantees, whatever the distribution. Exact for up to 20 differences; beyond, `draws` random sign patterns
    with the +1 of Phipson & Smyth 2010, so that p is never 0. NaN without differences.
    """
    d = _differences(differences)
    if not len(d):
        return float("nan")
    observed = abs(d.sum()) - 1e-12 * np.abs(d).sum()  # equal sums differ by rounding; they count as reached
    if len(d) <= ENUMERATED_UP_TO:
        sums = d[:1]
        for value in d[1:]:  # the first sign stays: turning all signs round leaves |sum| as it was
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
    error = d.std(ddof=1) / np.sqrt(len(d))
    if error == 0:
        return 1.0 if d.mean() == 0 else 0.0
    return float(2 * special.stdtr(len(d) - 1, -abs(d.mean()) / error))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p adjusted for several comparisons (Holm 1979): the chance of *any* false finding stays at the level.

    In the order given; NaN (not tested) stays NaN and is not counted among the comparisons.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise ValueError(f"p_values must be one row of numbers in [0, 1], got {p.tolist()}")
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def _differences(values: ArrayLike) -> NDArray[np.float64]:
    d = np.asarray(values, np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise ValueError("differences must be one row of finite numbers")
    return d
