"""The IoU thresholds of negatives: a number or a pair."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import limits


def negative_range(neg_iou_thr: float | Sequence[float], lowest: float) -> tuple[float, float]:
    """The IoU range of negatives: from ``lowest`` for a single number (an integer as well), else the given pair.

    Raises:
        ValueError: for anything but a number in [0, 1] or a pair (low, high) with low <= high.
    """
    if isinstance(neg_iou_thr, (int, float)):
        return lowest, float(limits.between("neg_iou_thr", neg_iou_thr, 0, 1))
    rising = len(neg_iou_thr) == 2 and neg_iou_thr[0] <= neg_iou_thr[1]
    limits.require(rising, "neg_iou_thr", neg_iou_thr, "a number or a pair [low, high] with low <= high")
    return float(neg_iou_thr[0]), float(neg_iou_thr[1])
