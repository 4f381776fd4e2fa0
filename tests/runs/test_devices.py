"""Threads, memory and progress where the system offers less than Linux does, and at 80 columns."""

from __future__ import annotations

import io
import os

import pytest
import torch
from rich.console import Console

from harness.training import devices
from harness.training.progress import Bar


def test_threads_of_the_environment_count_where_none_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
        assert devices.set_threads(None) == 2
        assert devices.set_threads(1) == 1
    finally:
        torch.set_num_threads(before)


def test_a_system_that_does_not_say_which_cores_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert devices.usable_cores() == os.cpu_count()


def test_the_bar_keeps_its_numbers_and_drops_losses_first() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with Bar("train", 1500, 700, "on", console) as bar:
        for _ in range(3):
            bar.step()
        bar.show({f"loss_{name}": 0.5 for name in ("classifier", "box_reg", "objectness", "rpn_box_reg")})
        bar._bar.refresh()
    last = [line for line in out.getvalue().replace("\r", "\n").splitlines() if "703/1500" in line][-1]
    assert "47%" in last
    assert "classifier" not in last  # 80 columns have no room for it
