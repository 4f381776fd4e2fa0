"""How many seeds it takes to show a difference of a given size."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from harness.statistics.paired_tests import sign_flip_floor

TESTS = ("sign_flip", "t")
# Beyond, the sign-flip test's power is taken to be the t-test's: within two percentage points for alpha >= .05 / 20. At
# .05 / 100 it is up to 12 points less, until n is some 6 above the least that can show anything.
SIMULATED_UP_TO = 12


def paired_t_power(n: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t-test with n pairs (noncentral t; Cohen 1988, section 2.2).

    `effect` is the true mean difference, `sd` the standard deviation of the differences.
    """
    _check(effect, sd, alpha)
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if effect else alpha
    shift = abs(effect) / sd * math.sqrt(n)
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    # Where the probability is below 1e-80, scipy's noncentral t gives NaN instead of 0.
    missed, wrong_side = np.nan_to_num(special.nctdtr(n - 1, shift, [critical, -critical]))
    return float(np.clip(1 - missed + wrong_side, 0.0, 1.0))


def sign_flip_power(n: int, effect: float, sd: float, alpha: float = 0.05, draws: int = 2_000, seed: int = 0) -> float:
    """Power of the sign-flip test with n pairs of normal differences, simulated with a fixed seed (+- .01).

    With few pairs the test is coarse (its p comes in steps of 2 / 2^n), so the t-test's power would promise too much.
    """
    _check(effect, sd, alpha)
    if n < 1 or sign_flip_floor(n) > alpha:
        return 0.0
    if n > SIMULATED_UP_TO:
        return paired_t_power(n, effect, sd, alpha)
    d = abs(effect) + sd * np.random.default_rng(seed).standard_normal((draws, n))
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * (n - 1))).reshape(n - 1, -1)
    sums = d[:, :1] + d[:, 1:] @ signs
    observed = np.abs(d.sum(1, keepdims=True)) * (1 - 1e-12)
    return float(((np.abs(sums) >= observed).mean(1) <= alpha).mean())


def seeds_for_power(
    effect: float,
    sd: float,
    alpha: float = 0.05,
    power: float = 0.8,
    test: str = "sign_flip",
    limit: int = 10_000,
) -> int | None:
    """The least number of paired seeds with which the test shows `effect` with probability `power`.

    None if that takes more than `limit` (an effect of 0 always does). Raises ValueError for an unknown test, sd < 0
    or a probability outside (0, 1).
    """
    _check(effect, sd, alpha)
    if test not in TESTS:
        raise ValueError(f"test must be one of {', '.join(TESTS)}, got {test!r}")
    if not 0 < power < 1:
        raise ValueError(f"power must be in (0, 1), got {power:g}")
    if effect == 0:
        return None
    power_of = sign_flip_power if test == "sign_flip" else paired_t_power
    start = 2 if test == "t" else math.ceil(1 - math.log2(alpha))
    for n in range(start, SIMULATED_UP_TO + 1):
        if power_of(n, effect, sd, alpha) >= power:
            return n
    low, high = max(start, SIMULATED_UP_TO + 1) - 1, limit
    if power_of(high, effect, sd, alpha) < power:
        return None
    while high - low > 1:  # power grows with n: halve the range
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle, effect, sd, alpha) >= power else (middle, high)
    return high


def _check(effect: float, sd: float, alpha: float) -> None:
    if not math.isfinite(effect):
        raise ValueError(f"effect must be a finite number, got {effect}")
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd must be a finite number >= 0, got {sd}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha:g}")
