"""``run.jobs_per_device``: runs that share devices by slots and memory, on devices that are made up."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

from harness.runs.schema import RunConfig
from harness.training import devices
from harness.training.interrupt import StopRequested, StopSignals
from harness.training.leases import DeviceLease, Occupied, Slot
from tests.processes import together


class Pretended:
    """Devices with ``free`` MiB each, of which every run of this process takes ``peak``."""

    def __init__(self, *free: float, peak: float = 1000.0) -> None:
        self.free, self.peak, self.asked = list(free), peak, list[int]()

    def names(self) -> list[str]:
        return [f"uuid-{number}" for number in range(len(self.free))]

    def free_mb(self, index: int) -> float:
        self.asked.append(index)
        return self.free[index]

    def peak_mb(self, index: int) -> float:
        return self.peak

    def forget(self) -> None:
        pass


def taken(found: list[Slot] | Occupied) -> list[int]:
    assert not isinstance(found, Occupied), found.line
    return [slot.device for slot in found]


def occupied(found: list[Slot] | Occupied) -> str:
    assert isinstance(found, Occupied)
    return found.line


Leases = Callable[[str, Pretended], DeviceLease]


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[Leases]:
    """``leases("a", pretended)``: that of a run; released at the end."""
    made: list[DeviceLease] = []

    def make(run: str, pretended: Pretended) -> DeviceLease:
        made.append(DeviceLease(run, pretended, tmp_path))
        return made[-1]

    yield make
    for lease in made:
        lease.release()


def running(lease: DeviceLease, per_device: int = 1, steps: int = 2) -> DeviceLease:
    """The lease once its run has taken a slot and made some steps."""
    found = lease.take(1, per_device)
    assert not isinstance(found, Occupied), found.line
    lease.own = found[0]
    batches = lease.noting(iter_batches(steps + 1))
    for _ in range(steps + 1):
        next(batches)
    return lease


def iter_batches(count: int) -> Iterator[int]:
    yield from range(count)


def test_a_device_has_as_many_runs_as_the_one_that_comes_allows(leases: Leases) -> None:
    pretended = Pretended(9000, 9000)
    first, second = running(leases("a", pretended)), running(leases("b", pretended))
    assert [first.own and first.own.device, second.own and second.own.device] == [0, 1]
    third = leases("c", pretended)
    line = occupied(third.take(1, 1))
    assert (
        line
        == "2 CUDA device(s): too few slots are free (run.jobs_per_device=1; a, b there); waits until a run there ends"
    )
    assert occupied(third.take(1, 1, index=1)).startswith(
        "cuda:1: too few slots are free (run.jobs_per_device=1; b there)"
    )
    assert taken(third.take(1, 2, index=1)) == [1]
    assert taken(leases("d", pretended).take(1, 2)) == [0]  # the emptier one
    second.release()
    third.release()
    assert taken(leases("e", pretended).take(1, 1)) == [1]


def test_several_devices_are_taken_together_or_not_at_all(leases: Leases) -> None:
    pretended = Pretended(9000, 9000, 9000)
    lone = running(leases("a", pretended))
    pair, late = leases("b", pretended), leases("c", pretended)
    assert taken(pair.take(2, 1)) == [1, 2]
    occupied(late.take(2, 1))
    lone.release()
    occupied(late.take(2, 1))
    assert taken(leases("d", pretended).take(1, 1)) == [0]  # late holds none of them


def test_a_run_waits_until_the_one_before_has_shown_its_memory_and_that_much_is_free(leases: Leases) -> None:
    pretended = Pretended(1000, peak=1000)
    first = running(leases("a", pretended), per_device=4, steps=0)
    second = leases("b", pretended)
    assert "has not shown yet how much memory it takes" in occupied(second.take(1, 4))
    for _ in first.noting(iter_batches(3)):
        pass
    line = occupied(second.take(1, 4))
    assert (
        line == "cuda:0: 1.0 GiB are free, and 1.1 are needed, 10% more than a took there; waits until a run there ends"
    )
    pretended.free[0] = 1200
    assert taken(second.take(1, 4)) == [0]
    third = leases("c", pretended)
    assert "has not shown yet" in occupied(third.take(1, 4))  # what the second one takes is not known
    second.release()
    first.release()
    pretended.free[0] = 1  # of programs that are not ours: nobody would end, so nobody waits
    assert taken(third.take(1, 4)) == [0]


def test_only_devices_that_are_needed_are_asked_for_their_memory(leases: Leases) -> None:
    pretended = Pretended(500, 9000, 9000)
    for name in "abc":
        running(leases(name, pretended), per_device=2)
    assert pretended.asked == []  # each had a device to itself
    assert taken(leases("d", pretended).take(1, 2)) == [1]
    assert pretended.asked == [0, 1]


def test_a_note_ends_with_the_next_run_in_the_slot(leases: Leases) -> None:
    pretended = Pretended(9000)
    first, second = running(leases("a", pretended)), leases("b", pretended)
    first.release()  # as the end of its process would: a slot is a FileLock
    assert taken(second.take(1, 1)) == [0]
    assert "has not shown yet" in occupied(leases("c", pretended).take(1, 2))


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(devices, "LOOK_EVERY", 0.01)


@pytest.mark.usefixtures("on_cuda")
def test_a_run_that_waits_says_so_once_and_starts_when_a_slot_is_free(
    leases: Leases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = running(leases("a", Pretended(9000))), leases("b", Pretended(9000))
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            first.release()

    monkeypatch.setattr("harness.training.devices.time.sleep", sleep)
    with caplog.at_level(logging.WARNING, logger="harness"):
        assert devices.choose(RunConfig(), second, StopSignals()) == torch.device("cuda", 0)
    assert [record.message for record in caplog.records] == [
        "1 CUDA device(s): too few slots are free (run.jobs_per_device=1; a there); waits until a run there ends"
    ]
    assert second.own is not None
    assert len(looks) == 3


@pytest.mark.usefixtures("on_cuda")
def test_a_stopped_sweep_ends_the_wait(tmp_path: Path, leases: Leases) -> None:
    running(leases("a", Pretended(9000)))
    (tmp_path / "stopped").touch()
    with pytest.raises(StopRequested, match="a stopped sweep"):
        devices.choose(RunConfig(device="cuda:0"), leases("b", Pretended(9000)), StopSignals(tmp_path / "stopped"))


def test_jobs_on_a_cpu_are_as_many_as_the_launcher_starts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="harness"):
        found = devices.choose(RunConfig(device="cpu", jobs_per_device=4), DeviceLease(), StopSignals())
    assert found == torch.device("cpu")
    assert [record.message.partition(":")[0] for record in caplog.records] == ["run.jobs_per_device=4"]


def shared(folder: str) -> list[int]:
    """What one of two processes gets, where an earlier run holds the third device."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "device_count", lambda: 3)
        patched.setattr(torch.cuda, "set_device", lambda index: None)
        lease = DeviceLease("pair", Pretended(9000, 9000, 9000), Path(folder))
        device = devices.choose(RunConfig(devices=2), lease, StopSignals())
        assert lease.own is not None
        for _ in lease.noting(iter_batches(2)):
            pass
        noted = lease.own.note.exists()
        lease.release()
        return [int(device.index or 0), int(noted)]


@pytest.mark.slow
def test_two_processes_of_a_run_have_a_slot_each_and_note_their_own_memory(
    tmp_path: Path, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(leases("a", Pretended(9000, 9000, 9000)))
    for name, value in (
        ("WORLD_SIZE", "2"),
        ("LOCAL_WORLD_SIZE", "2"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "1"),
    ):
        monkeypatch.setenv(name, value)
    assert together(2, ranked, str(tmp_path)) == [[1, 1], [2, 1]]


def ranked(folder: str) -> list[int]:
    """The same with this process's rank where a launcher would have put it."""
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(distributed.get_rank())
    return shared(folder)
