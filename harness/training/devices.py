"""Which device a run gets, in what precision, and with how many threads."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from harness.core.processes import gather_objects, process_count, process_rank
from harness.runs import launched
from harness.runs.locks import FileLock
from harness.runs.schema import ConfigError


class DeviceLease:
    """Holds CUDA devices for this process while other jobs of a sweep look for others.

    The lease is a lock on a file in the temporary folder: it ends with the process, however that ends. With more jobs
    than devices the devices are shared, the later job on the one that is asked for first.
    """

    def __init__(self) -> None:
        self._locks: list[FileLock] = []

    def take(self, count: int = 1) -> list[int]:
        """The indices of ``count`` different devices: free ones first, then from (process number modulo devices) on."""
        devices = torch.cuda.device_count()
        taken: list[int] = []
        for index in range(devices):
            lock = FileLock(Path(tempfile.gettempdir()) / f"harness-cuda-{getpass.getuser()}-{index}.lock")
            if len(taken) < count and lock.acquire(patience=0.0):
                self._locks.append(lock)
                taken.append(index)
        shared = (index % devices for index in range(os.getpid(), os.getpid() + devices))
        return [*taken, *(index for index in shared if index not in taken)][:count]

    def release(self) -> None:
        """Lets the devices go."""
        for lock in self._locks:
            lock.release()
        self._locks.clear()


def check_device(device: str) -> None:
    """Refuses a device that is not here.

    Raises:
        ConfigError: the line names what is here.
    """
    kind, _, index = device.partition(":")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(f"run.device={device}: no CUDA device is visible here; use run.device=auto or cpu")
        if index and int(index) >= torch.cuda.device_count():
            raise ConfigError(f"run.device={device}: only {torch.cuda.device_count()} CUDA device(s) are visible")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("run.device=mps: no MPS device is visible here; use run.device=auto or cpu")


def choose(device: str, lease: DeviceLease) -> torch.device:
    """The device that ``run.device`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: the named device is not there.
    """
    check_device(device)
    if device == "auto" and not torch.cuda.is_available():
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if device in ("auto", "cuda"):
        return torch.device("cuda", _own_device(lease))
    return torch.device(device)


def _own_device(lease: DeviceLease) -> int:
    """The index of this process's device; the first process of a machine takes those of all processes there."""
    own = launched.local_rank() if process_count() > 1 else 0
    taken = lease.take(launched.local_processes()) if own == 0 else []
    leader = process_rank() - own
    index = gather_objects(taken)[leader][own]
    torch.cuda.set_device(index)
    return index


def usable_cores() -> int:
    """The CPU cores that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Sets torch's CPU threads and returns the number.

    Args:
        threads: ``run.threads``; None is ``OMP_NUM_THREADS`` where that is a number, else one per core that this
            process may use, shared with the processes that train together with it.
    """
    count = threads or _asked_by_environment() or max(1, usable_cores() // launched.local_processes())
    torch.set_num_threads(count)
    return count


def _asked_by_environment() -> int | None:
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # one number per level of nesting
    return int(first) if first.isdigit() and int(first) > 0 else None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bf16 autocast for the forward pass, or nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def peak_memory_mb(device: torch.device) -> float:
    """Peak device memory on CUDA, the peak resident set of this process elsewhere; NaN on Windows, which has none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource  # POSIX only

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
