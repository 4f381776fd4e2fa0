"""Refusals that the constructors of augmentations share."""

from collections.abc import Sequence


def probability(name: str, value: float) -> float:
    """`value` if it is one; else ValueError naming the parameter."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: {value} is not valid; valid: 0 to 1")
    return float(value)


def interval(name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """`value` as (smallest, largest) within low..high; else ValueError naming the parameter."""
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ValueError(f"{name}: {list(value)} is not valid; valid: [smallest, largest] within {low} to {high}")
    return float(value[0]), float(value[1])
