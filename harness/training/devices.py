"""Which device a run gets, in what precision, and with how many threads."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

from harness.core.processes import any_process, gather_objects, process_count, process_rank
from harness.runs import launched
from harness.runs.schema import ConfigError, RunConfig
from harness.training.interrupt import StopRequested, StopSignals
from harness.training.leases import DeviceLease, Occupied

log = logging.getLogger("harness")

LOOK_EVERY = 1.0  # seconds between two looks for a free slot
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of this process, on Linux


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


def choose(run: RunConfig, lease: DeviceLease, stop: StopSignals) -> torch.device:
    """The device that ``run.device`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    On CUDA, waits for a slot of ``run.jobs_per_device`` (:mod:`harness.training.leases`). The peak of the memory in use
    begins anew.

    Raises:
        ConfigError: the named device is not there.
        StopRequested: the sweep was stopped while the run waited.
    """
    check_device(run.device)
    forget_peak_memory()
    kind, _, index = run.device.partition(":")
    if kind == "cuda" or (kind == "auto" and torch.cuda.is_available()):
        return torch.device("cuda", _own_device(run.jobs_per_device, int(index) if index else None, lease, stop))
    if run.jobs_per_device > 1:
        log.info("run.jobs_per_device=%d: of CUDA devices; here the launcher alone says how many", run.jobs_per_device)
    if kind == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return torch.device(run.device)


def _own_device(per_device: int, only: int | None, lease: DeviceLease, stop: StopSignals) -> int:
    """The index of this process's device; the first process of a machine takes those of all processes there."""
    own = launched.local_rank() if process_count() > 1 else 0
    waits_for = ""
    while True:
        answer = lease.take(launched.local_processes(), per_device, only) if own == 0 else []
        answers = gather_objects(answer)
        occupied = next((found for found in answers if isinstance(found, Occupied)), None)
        if occupied is None:
            break
        lease.release()  # with several machines, one may have slots where another has none
        if occupied.reason != waits_for:
            waits_for = occupied.reason
            log.warning("%s", occupied.line)
        name = stop.requested()
        if any_process(name is not None):
            raise StopRequested(name or "a signal to another process")
        time.sleep(LOOK_EVERY)
    slots = answers[process_rank() - own]
    assert not isinstance(slots, Occupied)
    lease.own = slots[own]
    torch.cuda.set_device(lease.own.device)
    return lease.own.device


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


def forget_peak_memory() -> None:
    """Starts the peak of this process's resident set anew, on Linux: a sweep runs one job after another in one process,
    and what an earlier one took is no cost of the next. Elsewhere a peak is that of all jobs so far."""
    with suppress(OSError):
        CLEAR_REFS.write_text("5")  # man 5 proc


def peak_memory_mb(device: torch.device) -> float:
    """Peak device memory on CUDA, the peak resident set of this process elsewhere; NaN on Windows, which has none.

    On CUDA since the lease was taken, on Linux since :func:`forget_peak_memory`.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return float("nan")
    if STATUS.exists():  # getrusage() would not forget, and begins with what the starting process had taken
        found = re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 2**10
    import resource  # POSIX only

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
