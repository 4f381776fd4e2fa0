"""How many seeds a fixed design needs: the paired t-test with one look at a number of seeds chosen beforehand."""

from __future__ import annotations

import math

import numpy as np


def paired_t_power(n: int, effect: float, sd: float, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t-test with n pairs (noncentral t; Cohen 1988, section 2.2).

    `effect` is the true mean difference, `sd` the standard deviation of the differences.
    """
    _check(effect, sd, alpha)
    if n < 2:
        return 0.0
    if sd == 0:
        return 1.0 if effect else alpha
    from scipy import special  # slow to import, so only where it is used

    shift = abs(effect) / sd * math.sqrt(n)
    critical = float(special.stdtrit(n - 1, 1 - alpha / 2))
    # Where the probability is below 1e-80, scipy's noncentral t gives NaN instead of 0.
    missed, wrong_side = np.nan_to_num(special.nctdtr(n - 1, shift, [critical, -critical]))
    return float(np.clip(1 - missed + wrong_side, 0.0, 1.0))


def seeds_for_power(
    effect: float, sd: float, alpha: float = 0.05, power: float = 0.8, limit: int = 10_000
) -> int | None:
    """The least number of paired seeds with which the t-test shows `effect` with probability `power`.

    None if that takes more than `limit` (an effect of 0 always does). Raises ValueError for sd < 0 or a probability
    outside (0, 1).
    """
    _check(effect, sd, alpha)
    if not 0 < power < 1:
        raise ValueError(f"power must be in (0, 1), got {power:g}")
    if effect == 0 or paired_t_power(limit, effect, sd, alpha) < power:
        return None
    low, high = 1, limit
    while high - low > 1:  # power grows with n: halve the range
        middle = (low + high) // 2
        low, high = (low, middle) if paired_t_power(middle, effect, sd, alpha) >= power else (middle, high)
    return high


def _check(effect: float, sd: float, alpha: float) -> None:
    if not math.isfinite(effect):
        raise ValueError(f"effect must be a finite number, got {effect}")
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd must be a finite number >= 0, got {sd}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha:g}")
