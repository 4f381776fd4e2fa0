"""Numbers, intervals and lists as a report writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.comparison import Row
from harness.statistics import FurtherSeeds


def value_text(row: Row) -> str:
    """Mean and spread."""
    if math.isnan(row.mean):
        return "no value"
    return number(row.mean) + (f" ± {number(row.sd)}" if not math.isnan(row.sd) else "")


def number(value: float) -> str:
    """A metric: three decimals for fractions, three digits for larger numbers."""
    if math.isnan(value):
        return "—"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"


def signed(value: float) -> str:
    """A difference, with its sign and a true minus."""
    if math.isnan(value):
        return "—"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = f"{value:+.4f}" if abs(value) < 10 else f"{value:+,.1f}"
    return text.replace("-", "−")


def further_text(expected: FurtherSeeds | None) -> str:
    """Median and 80 % range of the expected further seeds, or a dash."""
    if expected is None:
        return "—"
    if expected.high == 0:
        return "0"
    median, low, high = (
        f">{expected.limit}" if n is None else str(n) for n in (expected.median, expected.low, expected.high)
    )
    return f"{median} ({low} to {high})"


def interval_text(interval: tuple[float, float]) -> str:
    """[low, high], a dash without any, or ``unbounded`` while there are too few seeds."""
    if any(map(math.isnan, interval)):
        return "—"
    return "unbounded" if all(map(math.isinf, interval)) else f"[{signed(interval[0])}, {signed(interval[1])}]"


def shares_text(interval: tuple[float, float]) -> str:
    """[low, high] of probabilities, or a dash."""
    return "—" if any(map(math.isnan, interval)) else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def p_text(p: float) -> str:
    """Three decimals."""
    if math.isnan(p):
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def counted(count: int, noun: str) -> str:
    """A number and its noun: 1 run, 2 runs."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
