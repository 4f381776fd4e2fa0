"""Slots of CUDA devices: how the runs of one user share the devices of a machine, ``run.jobs_per_device`` on each.

A slot is a lock on a file in the temporary folder, so it ends with its process, however that ends. Beside it lies a
note of the most memory that the run in it has taken so far. A run that comes to a device which others use starts there
only if as much as the largest of them took is free. While one of them has not made a step yet, nobody knows how much
that is, and the next one waits.
"""

from __future__ import annotations

import gc
import getpass
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from harness.runs.locks import FileLock
from harness.runs.records import read_json, write_json

T = TypeVar("T")

HEADROOM = 1.1  # of the largest peak beside a run: evaluation and larger images come later
GATE_PATIENCE = 10.0  # seconds to wait while other runs look for a device; a look takes milliseconds
NOTE_EVERY = 64  # steps between two notes, after those at the powers of two
UNTIL_ONE_ENDS = "waits until a run there ends"


class Devices(Protocol):
    """The devices that this process sees, by index."""

    def names(self) -> list[str]:
        """A name for each that no other device of the machine has, fit for a file's name."""

    def free_mb(self, index: int) -> float:
        """MiB that nobody uses."""

    def peak_mb(self, index: int) -> float:
        """The most MiB that this process has held since :meth:`forget`."""

    def forget(self) -> None:
        """Gives back what an earlier run of this process has left, and starts its peak anew."""


class CudaDevices:
    """What CUDA says of its devices."""

    def names(self) -> list[str]:
        """Their UUIDs: under CUDA_VISIBLE_DEVICES two processes may mean different devices by the same index."""
        return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]

    def free_mb(self, index: int) -> float:
        """Asks the driver, which opens a context on the device: what is free afterwards is free for tensors."""
        return torch.cuda.mem_get_info(index)[0] / 2**20

    def peak_mb(self, index: int) -> float:
        """With the blocks that torch's allocator keeps."""
        return torch.cuda.max_memory_reserved(index) / 2**20

    def forget(self) -> None:
        """Empties the allocator's cache: the worker of a launcher runs one job after another."""
        if torch.cuda.is_initialized():
            gc.collect()
            torch.cuda.empty_cache()
            for index in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(index)


@dataclass(frozen=True)
class Slot:
    """A run's place on a device."""

    device: int  # index among the visible devices
    lock: Path

    @property
    def note(self) -> Path:
        """Of the memory that the run has taken."""
        return self.lock.with_suffix(".json")


@dataclass(frozen=True)
class Occupied:
    """Why there is no slot now."""

    reason: str  # the same for as long as a run waits for the same thing
    line: str


class DeviceLease:
    """The slots of one run.

    Args:
        run: what the notes call it.
        devices: None: those of CUDA.
        folder: of the locks; None: the temporary folder.
    """

    def __init__(self, run: str = "", devices: Devices | None = None, folder: Path | None = None) -> None:
        self.own: Slot | None = None  # of this process: its run may have several, which its first process holds
        self._run = run
        self._devices = CudaDevices() if devices is None else devices
        user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
        self._prefix = (folder or Path(tempfile.gettempdir())) / f"harness-cuda-{user}"
        self._locks: list[FileLock] = []
        self._noted_mb = 0.0

    def take(self, count: int, per_device: int, index: int | None = None) -> list[Slot] | Occupied:
        """Takes a slot on each of ``count`` different devices, or none at all. Does not wait for other runs.

        The emptiest devices come first.

        Args:
            count: at most as many as there are devices.
            per_device: how many runs a device may have with this one.
            index: of the only device in question; None: any.
        """
        gate = FileLock(Path(f"{self._prefix}.lock"))
        if not gate.acquire(GATE_PATIENCE):
            return Occupied("gate", "other runs are looking for a device; waits for them")
        try:
            self._devices.forget()
            return self._take(count, per_device, index)
        finally:
            gate.release()

    def release(self) -> None:
        """Lets the slots go."""
        if self.own is not None:
            self._devices.forget()
        for lock in self._locks:
            lock.release()
        self._locks.clear()
        self.own = None

    def noting(self, batches: Iterator[T]) -> Iterator[T]:
        """Passes batches on. After some of their steps the other runs are told how much memory this one has taken."""
        with closing(batches):  # type: ignore[type-var]  # a generator, which ends its loading processes
            for number, batch in enumerate(batches):
                if number & (number - 1) == 0 or number % NOTE_EVERY == 0:
                    self._note(number)
                yield batch

    def _note(self, steps: int) -> None:
        if self.own is None or steps == 0:
            return
        peak = self._devices.peak_mb(self.own.device)
        if peak > self._noted_mb:
            self._noted_mb = peak
            with suppress(OSError):  # a full disk: others go on waiting for the note, or trust the one before
                write_json(self.own.note, {"run": self._run, "peak_mb": peak})

    def _take(self, count: int, per_device: int, index: int | None) -> list[Slot] | Occupied:
        names = self._devices.names()
        beside = {place: self._used(place, names[place]) for place in (range(len(names)) if index is None else [index])}
        emptiest = sorted(beside, key=lambda place: len(beside[place]))
        free = [place for place in emptiest if len(beside[place]) < per_device]
        if len(free) < count:
            return _full(list(beside.values()), per_device, f"cuda:{index}" if index is not None else "")
        fitting: list[int] = []
        obstacles: list[Occupied] = []
        for place in free:
            obstacle = _obstacle(beside[place], self._devices)
            if obstacle is not None:
                obstacles.append(obstacle)
                continue
            fitting.append(place)
            if len(fitting) == count:  # further devices are not asked: the question opens a context on them
                return [self._lock(place, names[place]) for place in fitting]
        return obstacles[0]

    def _used(self, place: int, name: str) -> list[Slot]:
        """The slots of a device that runs hold."""
        found = []
        for path in sorted(self._prefix.parent.glob(f"{self._prefix.name}-{name}-*.lock")):
            lock = FileLock(path)
            if not lock.acquire(patience=0.0):  # nobody takes it only to look: the gate is closed
                found.append(Slot(place, path))
            lock.release()
        return found

    def _lock(self, place: int, name: str) -> Slot:
        """Takes the first slot of a device that nobody holds."""
        for number in numbers():
            slot = Slot(place, Path(f"{self._prefix}-{name}-{number}.lock"))
            lock = FileLock(slot.lock)
            if lock.acquire(patience=0.0):
                break
        slot.note.unlink(missing_ok=True)  # of the run before
        self._locks.append(lock)
        return slot


def _obstacle(beside: Sequence[Slot], devices: Devices) -> Occupied | None:
    """Why a run cannot start on a device where those in ``beside`` are; None where it can."""
    if not beside:
        return None
    device, notes = beside[0].device, [_read(slot.note) for slot in beside]
    known = [note for note in notes if note is not None]
    if len(known) < len(notes):
        line = f"cuda:{device}: the run before has not shown yet how much memory it takes; waits for its first step"
        return Occupied(f"unknown {device}", line)
    largest = max(known, key=lambda note: float(note["peak_mb"]))
    needed, free = HEADROOM * largest["peak_mb"] / 1024, devices.free_mb(device) / 1024
    if free >= needed:
        return None
    line = (
        f"cuda:{device}: {free:.1f} GiB are free, and {needed:.1f} are needed, {HEADROOM - 1:.0%} more than "
        f"{largest['run']} took there; {UNTIL_ONE_ENDS}"
    )
    return Occupied(f"memory {device}", line)


def _full(beside: Sequence[Sequence[Slot]], per_device: int, only: str) -> Occupied:
    notes = [_read(slot.note) for slots in beside for slot in slots]
    runs = ", ".join(sorted({str(note["run"]) for note in notes if note is not None}))
    held = f"; {runs} there" if runs else ""
    which = only or f"{len(beside)} CUDA device(s)"
    line = f"{which}: too few slots are free (run.jobs_per_device={per_device}{held}); {UNTIL_ONE_ENDS}"
    return Occupied("taken", line)


def _read(path: Path) -> dict[str, Any] | None:
    """A note; None where there is none that can be read."""
    try:
        note: dict[str, Any] = read_json(path)
    except (OSError, ValueError):
        return None
    return note
