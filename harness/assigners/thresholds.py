"""Early refusals of thresholds that cannot work, one clear line each."""

from __future__ import annotations

from collections.abc import Sequence


def check_at_least(name: str, value: float, low: float) -> None:
    """ValueError where ``value`` is below ``low``."""
    if not value >= low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """ValueError where ``value`` is outside ``[low, high]``."""
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """ValueError where ``value`` is not one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def negative_range(neg_iou_thr: float | Sequence[float], lowest: float) -> tuple[float, float]:
    """The IoU range of negatives: from ``lowest`` for a single number (an integer as well), else the given pair.

    Raises:
        ValueError: for anything but a number or a pair (low, high) with low <= high.
    """
    if isinstance(neg_iou_thr, (int, float)):
        check_between("neg_iou_thr", neg_iou_thr, 0, 1)
        return lowest, float(neg_iou_thr)
    pair = tuple(float(bound) for bound in neg_iou_thr)
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError(f"neg_iou_thr must be a number or a pair (low, high) with low <= high, got {list(pair)}")
    return pair
