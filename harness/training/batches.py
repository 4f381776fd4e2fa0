"""Batches from loading processes that may get stuck or die, with the cause in one line."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from harness.data.loading import Batch

WITHOUT = "run.num_workers=0 loads in the training process, without them"
# What torch says, by a part of its message, and what is behind it.
CAUSES = {
    "timed out": (
        "gave no batch for run.loading_timeout={timeout:g} seconds: the shared memory (/dev/shm) is full, a loading "
        "process is stopped, or the data is slower than that"
    ),
    "ancdata": "ran out of file descriptors: the limit (`ulimit -n`) is too small",
    "Too many open files": "ran out of file descriptors: the limit (`ulimit -n`) is too small",
    "Bus error": "ran out of shared memory (/dev/shm)",
    "No space left on device": "ran out of shared memory (/dev/shm)",
    "shared memory": "ran out of shared memory (/dev/shm)",
    "is killed by signal: Killed": "were killed: the memory may be full",
    "exited unexpectedly": "died: the memory may be full",
}


class LoadingError(RuntimeError):
    """The loading processes of a run stopped giving batches; one line names the cause and what helps."""


def watched(loader: DataLoader[Any]) -> Iterator[Batch]:
    """The batches of ``loader``; its processes have ended when the iteration ends, in whatever way.

    Raises:
        LoadingError: they gave no batch within the loader's timeout, or died.
    """
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    try:
        yield from batches
    except (RuntimeError, OSError) as error:
        cause = next((said for part, said in CAUSES.items() if part in str(error)), None)
        if loader.num_workers == 0 or cause is None:
            raise
        said = cause.format(timeout=loader.timeout)
        raise LoadingError(f"the loading processes (run.num_workers={loader.num_workers}) {said}; {WITHOUT}") from error
    finally:
        if loader.num_workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]  # no public name; waits 5 s for each at most
        for process in set(multiprocessing.active_children()) - before:
            process.kill()  # a stopped one would not hear anything else, and this process would wait for it at its end
