"""Where the guarantee ends: differences that are far from symmetric, and seeds that are filled in later."""

from __future__ import annotations

import numpy as np

from harness.statistics.evidence import running_p

SEEDS = 30
LEVELS = (1, 4, 12)  # comparisons; each is tested at 0.05 over their number
Rows = list[list[str]]


def skewness_table(repetitions: int) -> Rows:
    """False better or worse of one comparison whose true mean difference is 0, by the skewness of the differences.

    Gamma-distributed differences, looked at after every seed up to 30. For several comparisons, the rate of one at
    Holm's strictest level times their number, which bounds the rate of any.
    """
    rows = []
    for skewness in (0.0, 0.5, 1.0, 1.5, 2.0):
        rng = np.random.default_rng(0)
        shape = (repetitions, SEEDS)
        size = 4 / skewness**2 if skewness else None
        draws = rng.standard_normal(shape) if size is None else (rng.gamma(size, 1, shape) - size) / np.sqrt(size)
        least = running_p(draws)[:, -1]
        rows.append([f"{skewness:g}", *(f"{k * (least <= 0.05 / k).mean():.1%}" for k in LEVELS)])
    return [["skewness of the differences", *(f"{k} comparisons" if k > 1 else "1 comparison" for k in LEVELS)], *rows]


def filled_seed_table(repetitions: int) -> Rows:
    """False better or worse if a seed fails and is repaired later, counting the looks at both orders."""
    z = np.random.default_rng(1).standard_normal((repetitions, SEEDS))
    rows = []
    for missing, repaired in ((0, 10), (1, 10), (1, SEEDS), (4, 10)):
        before = running_p(np.delete(z, missing, 1)[:, : repaired - 1])[:, -1] <= 0.05
        after = running_p(z)[:, repaired - 1 :]  # never rises, so the last value is the least
        wrong = before | (after[:, -1] <= 0.05)
        rows.append(
            [
                f"seed {missing}",
                f"{repaired} seeds",
                f"{(running_p(z)[:, -1] <= 0.05).mean():.1%}",
                f"{wrong.mean():.1%}",
            ]
        )
    return [["missing", "filled in when there are", "never missing", "looked at before and after"], *rows]
