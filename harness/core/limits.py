"""What a parameter may be, checked early: one line says which parameter, its value, and what would be valid.

Every check raises ValueError ``name=value must be ...`` and otherwise returns the value, so that a constructor checks
and keeps a parameter in one line. Callers that know the configuration path prefix it (see
:mod:`harness.experiment.pieces`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)
T = TypeVar("T")


def require(holds: bool, name: str, value: T, valid: str) -> T:
    """The general check: ``value`` where it ``holds``; ``valid`` continues "must be"."""
    if not holds:
        raise ValueError(f"{name}={value!r} must be {valid}")
    return value


def unicode_text(name: str, value: str) -> str:
    """A text that UTF-8 can hold: without halves of surrogate pairs, which come from escapes in JSON and from names of
    files that are not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return require(False, name, value, "a text that UTF-8 can hold")
    return value


def at_least(name: str, value: Number, low: float) -> Number:
    """A finite number from ``low`` on."""
    return require(_is_finite(value) and value >= low, name, value, _finite(value, f"at least {low:.12g}"))


def above(name: str, value: Number, low: float, at_most: float = math.inf) -> Number:
    """A finite number above ``low``, where ``at_most`` is given up to there."""
    valid = f"above {low:.12g}" if at_most == math.inf else f"above {low:.12g} and at most {at_most:.12g}"
    return require(_is_finite(value) and low < value <= at_most, name, value, _finite(value, valid))


def between(name: str, value: Number, low: float, high: float) -> Number:
    """A number from ``low`` to ``high``, both of them valid."""
    return require(_is_finite(value) and low <= value <= high, name, value, f"between {low:.12g} and {high:.12g}")


def count(name: str, value: int, least: int) -> int:
    """A whole number from ``least`` on."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return require(whole and value >= least, name, value, f"a whole number of at least {least}")


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """One of the ``choices``."""
    valid = list(choices)
    return require(value in valid, name, value, f"one of {', '.join(valid)}")


def interval(name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """A pair (smallest, largest) of numbers from ``low`` to ``high``."""
    inside = len(value) == 2 and all(_is_finite(end) for end in value) and low <= value[0] <= value[1] <= high
    require(inside, name, value, f"[smallest, largest] between {low:.12g} and {high:.12g}")
    return float(value[0]), float(value[1])


def optional(check: Callable[..., T], name: str, value: Any, *limits: Any) -> T | None:
    """None, or what passes ``check(name, value, *limits)``."""
    if value is None:
        return None
    try:
        return check(name, value, *limits)
    except ValueError as error:
        raise ValueError(f"{error}, or null") from None


def _is_finite(value: object) -> bool:
    """A word or a truth value out of a configuration file is no number, and NaN lies in no range."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _finite(value: object, valid: str) -> str:
    return f"finite and {valid}" if isinstance(value, float) and math.isinf(value) else valid
