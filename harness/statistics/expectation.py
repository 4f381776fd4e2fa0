"""How many further seeds a comparison is expected to need, by simulation from the seeds seen so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.statistics.evidence import running_p, running_p_outside

FUTURES = 400
FEWEST = 3  # seeds; two say next to nothing about their own spread
LIMIT = 100


@dataclass(frozen=True)
class FurtherSeeds:
    """Quantiles of the number of further seeds until a verdict; None where the quantile exceeds ``limit``."""

    median: int | None
    low: int | None  # 10 % of the simulated futures need at most this many
    high: int | None  # 90 %
    limit: int = LIMIT

    def __str__(self) -> str:
        if self.high == 0:
            return "0"
        many = f"more than {self.limit}"
        if self.median is None:
            return many if self.low is None else f"{many} ({self.low} or more)"
        return f"{self.median} ({self.low} to {many if self.high is None else self.high})"


SETTLED = FurtherSeeds(0, 0, 0)


def expected_further_seeds(
    differences: ArrayLike,
    alpha: float,
    margin: float,
    limit: int = LIMIT,
    seed: int = 0,
    alpha_same: float | None = None,
) -> FurtherSeeds | None:
    """Further paired seeds until the running p of "no difference" or of "at least the margin" is at most alpha.

    Draws the true mean and spread from their posterior given the differences (reference prior 1/sigma: scaled inverse
    chi-squared and normal; Gelman et al. 2013, section 3.2), then future seeds from these, and continues the
    evidence with them. So the uncertainty of an effect seen in three seeds is part of the range. ``alpha`` is the level
    after the correction for several comparisons, ``alpha_same`` that of "at least the margin" where it is another one.
    The same input gives the same numbers. None below 3 differences.
    """
    d = np.asarray(differences, np.float64)
    n = len(d)
    if n < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    spread = d.std(ddof=1) * np.sqrt((n - 1) / rng.chisquare(n - 1, (FUTURES, 1)))
    mean = d.mean() + spread / np.sqrt(n) * rng.standard_normal((FUTURES, 1))
    future = mean + spread * rng.standard_normal((FUTURES, limit))
    paths = np.concatenate([np.broadcast_to(d, (FUTURES, n)), future], 1)
    settled = (running_p(paths) <= alpha) | (running_p_outside(paths, margin) <= (alpha_same or alpha))
    needed = np.sort(np.where(settled[:, n - 1 :].any(1), settled[:, n - 1 :].argmax(1), limit + 1))
    low, median, high = (
        int(value) if (value := needed[int(q * (FUTURES - 1))]) <= limit else None for q in (0.1, 0.5, 0.9)
    )
    return FurtherSeeds(median, low, high, limit)
