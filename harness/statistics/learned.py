"""When a comparison has nothing to compare: neither of its two methods has learned anything."""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.statistics.verdicts import MARGIN

NOTHING_LEARNED = "nothing learned"
SHOWN_AS_ZERO = 0.0005  # three decimals of a mean below this are 0.000
ACCURACIES = ("map", "ar_", "ap.", "segm.", "keypoints.")  # metrics that a detector earns, by the start of their names


def is_accuracy(metric: str) -> bool:
    """Whether the metric is a fraction that a detector earns, so that 0 means that nothing was learned.

    >>> is_accuracy("map50"), is_accuracy("train_seconds")
    (True, False)
    """
    return metric.startswith(ACCURACIES)


def least_learned(metric: str, margin: float) -> float | None:
    """The mean of the metric below which a method has learned nothing; None for a metric that is no accuracy.

    Two methods between 0 and a mean below the margin cannot differ by more than the margin, so that "the same" says
    nothing about them. A wide margin is capped by the default one: a mean of 0.02 is a low accuracy, but one.

    >>> least_learned("map", 0.002), least_learned("map", 0.05), least_learned("map", 0), least_learned("d_ece", 0.005)
    (0.002, 0.005, 0.0005, None)
    """
    return max(SHOWN_AS_ZERO, min(margin, MARGIN)) if is_accuracy(metric) else None


def nothing_learned(means: Iterable[float], least: float | None) -> bool:
    """Whether every known mean is below :func:`least_learned`; False where there is no such bound or no known mean.

    >>> nothing_learned([0.001, float("nan")], 0.005), nothing_learned([0.001, 0.3], 0.005), nothing_learned([], 0.005)
    (True, False, False)
    """
    known = [mean for mean in means if math.isfinite(mean)]
    return least is not None and bool(known) and max(known) < least
