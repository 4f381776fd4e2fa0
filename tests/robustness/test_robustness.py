"""The two scripts with reduced counts; README.md holds the outcome of the whole ones."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

from tests.robustness import damage, kills


@pytest.mark.slow
def test_damaged_files_are_neither_used_nor_a_traceback(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    for family in damage.families(damage.small_run(tmp_path), tmp_path / "few"):
        counts = damage.damage(family, 40, random.Random(family.name))
        assert counts["wrong"] == counts["traceback"] == 0, family.name
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and signals")
def test_interrupted_runs_and_sweeps_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    for kind, kill, count in (("runs", kills.kill_runs, 4), ("sweeps", kills.kill_sweeps, 2)):
        record = kills.Record(kind, 1, tmp_path / "kills.jsonl")
        kill(count, tmp_path, record)
        assert kills.Record(kind, 1, tmp_path / "kills.jsonl").missing(count) == []
