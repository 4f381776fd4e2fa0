"""The checks of parameters: what passes comes back, what does not is named in one line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.core import limits


def test_what_is_valid_comes_back() -> None:
    assert limits.at_least("x", 0, 0) == 0
    assert limits.above("x", 1e-9, 0) == 1e-9
    assert limits.above("x", 1, 0, 1) == 1
    assert limits.between("x", 1.0, 0, 1) == 1
    assert limits.count("x", np.int64(3), 1) == 3
    assert limits.one_of("x", "a", ("a", "b")) == "a"
    assert limits.interval("x", [1, 1], 0, 2) == (1.0, 1.0)
    assert limits.optional(limits.above, "x", None, 0) is None
    assert limits.optional(limits.above, "x", 2, 0) == 2
    assert limits.require(True, "x", "anything", "") == "anything"


@pytest.mark.parametrize(
    ("check", "value", "bounds", "line"),
    [
        (limits.at_least, -1, (0,), "x=-1 must be at least 0"),
        (limits.at_least, math.inf, (0,), "x=inf must be finite and at least 0"),
        (limits.at_least, math.nan, (0,), "x=nan must be at least 0"),
        (limits.at_least, None, (0,), "x=None must be at least 0"),
        (limits.at_least, "much", (0,), "x='much' must be at least 0"),
        (limits.at_least, True, (0,), "x=True must be at least 0"),
        (limits.above, 0, (0,), "x=0 must be above 0"),
        (limits.above, 1.5, (0, 1), "x=1.5 must be above 0 and at most 1"),
        (limits.between, 2, (0, 0.7), "x=2 must be between 0 and 0.7"),
        (limits.between, -1, (0, 2**32 - 1), "x=-1 must be between 0 and 4294967295"),
        (limits.count, 2.0, (1,), "x=2.0 must be a whole number of at least 1"),
        (limits.count, True, (1,), "x=True must be a whole number of at least 1"),
        (limits.one_of, "c", (("a", "b"),), "x='c' must be one of a, b"),
        (limits.interval, [2, 1], (0, 3), "x=[2, 1] must be [smallest, largest] between 0 and 3"),
        (limits.interval, [1], (0, 3), "x=[1] must be [smallest, largest] between 0 and 3"),
        (limits.interval, ["a", "b"], (0, 3), "x=['a', 'b'] must be [smallest, largest] between 0 and 3"),
    ],
)
def test_what_is_not_is_named(check: Any, value: Any, bounds: tuple[Any, ...], line: str) -> None:
    with pytest.raises(ValueError) as refusal:
        check("x", value, *bounds)
    assert str(refusal.value) == line
    if value is not None:
        with pytest.raises(ValueError) as refusal:
            limits.optional(check, "x", value, *bounds)
        assert str(refusal.value) == f"{line}, or null"
