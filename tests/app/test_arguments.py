"""Flags and overrides may stand in any order."""

from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser

from harness.app.arguments import VERBOSITY, rewritten

OVERRIDES = ["sampler=ohem", "seed=0,1", "~tracker", "+trainer=mine"]
FLAGS = [["-m"], ["-cn", "libra"], ["-cd", "own=options"], ["-q"]]


@pytest.mark.parametrize("place", range(len(OVERRIDES) + 1))
@pytest.mark.parametrize("reverse", [False, True])
def test_flags_and_overrides_stand_in_any_order(place: int, reverse: bool) -> None:
    flags = [word for flag in (FLAGS[::-1] if reverse else FLAGS) for word in flag]
    parsed = get_args_parser().parse_args(rewritten([*OVERRIDES[:place], *flags, *OVERRIDES[place:]]))
    assert (parsed.multirun, parsed.config_name, parsed.config_dir) == (True, "libra", "own=options")
    assert parsed.overrides == [*VERBOSITY["-q"], *OVERRIDES]


def test_a_flag_between_two_overrides() -> None:
    parsed = get_args_parser().parse_args(rewritten(["sampler=ohem", "--multirun", "seed=0,1", "-cn", "libra", "a=b"]))
    assert (parsed.multirun, parsed.config_name) == (True, "libra")
    assert parsed.overrides == ["sampler=ohem", "seed=0,1", "a=b"]
