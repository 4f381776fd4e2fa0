"""Threads, memory and progress where the system offers less than Linux does, and at 80 columns."""

from __future__ import annotations

import io
import os

import pytest
import torch
from rich.console import Console

from harness.runs.schema import RunConfig
from harness.training import devices
from harness.training.checkpoint import CheckpointError
from harness.training.interrupt import StopSignals
from harness.training.leases import DeviceLease
from harness.training.progress import Bar
from harness.training.streams import Streams


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


@pytest.mark.skipif(not devices.CLEAR_REFS.exists(), reason="the system cannot start a process's peak anew")
def test_the_peak_of_a_run_is_not_that_of_the_one_before_it_in_the_process() -> None:
    cpu, run, lease, stop = torch.device("cpu"), RunConfig(device="cpu"), DeviceLease(), StopSignals()
    devices.forget_peak_memory()
    large = torch.ones(64 * 2**20)  # 256 MiB
    before = devices.peak_memory_mb(cpu)
    del large
    assert devices.choose(run, lease, stop) == cpu
    assert devices.peak_memory_mb(cpu) < before - 200
    assert torch.ones(64 * 2**20).all()
    assert devices.peak_memory_mb(cpu) > before - 50


def test_a_run_is_continued_on_any_device_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot that a run gets may be on another device than before, and the machine may have fewer of them."""
    states = {0: torch.tensor([0], dtype=torch.uint8), 1: torch.tensor([1], dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device.index])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device.index: state}))
    first, second = (Streams(3, torch.device("cpu")) for _ in range(2))
    first._device, second._device = torch.device("cuda", 1), torch.device("cuda", 0)
    expected = torch.rand(2, generator=first.sampling)  # moves on
    second.load_state_dict(first.state_dict())
    assert states[0].item() == states[1].item() == 1
    assert torch.equal(torch.rand(2, generator=first.sampling), torch.rand(2, generator=second.sampling))
    assert not torch.equal(expected, torch.rand(2, generator=second.sampling))


def test_noise_of_another_kind_of_device_cannot_go_on() -> None:
    streams = Streams(3, torch.device("cpu"))
    state = {**streams.state_dict(), "sampling": torch.zeros(16, dtype=torch.uint8)}  # as CUDA's generators have it
    with pytest.raises(CheckpointError, match=r"another kind of device than cpu.*run\.device=cpu"):
        streams.load_state_dict(state)
