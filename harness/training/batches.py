"""Batches from loading processes that may get stuck or die, with the cause in one line."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from torch.utils.data import DataLoader

from harness.data.loading import Batch

WITHOUT = "run.num_workers=0 loads in the training process, without them"
MARGIN = 2.0  # seconds that the loader's own timeout gets before its processes are killed
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
    if loader.num_workers == 0:
        yield from loader
        return
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    processes = set(multiprocessing.active_children()) - before
    watchdog = Watchdog(processes, loader.timeout + MARGIN)
    try:
        try:
            with watchdog:
                while (batch := watchdog.guarded(batches)) is not None:
                    yield batch
        finally:
            close(batches, processes)
    except (RuntimeError, OSError, EOFError) as error:
        text = "timed out" if watchdog.fired else str(error)
        cause = next((said for part, said in CAUSES.items() if part in text), None)
        if cause is None and isinstance(error, EOFError | ConnectionError):
            cause = CAUSES["exited unexpectedly"]  # it died while it handed over a batch's place in shared memory
        if cause is None:
            raise
        said = cause.format(timeout=loader.timeout)
        raise LoadingError(f"the loading processes (run.num_workers={loader.num_workers}) {said}; {WITHOUT}") from error


def close(batches: Iterator[Batch], processes: Collection[multiprocessing.process.BaseProcess]) -> None:
    """Ends the loading ``processes`` behind ``batches``, and waits for their end.

    Raises:
        RuntimeError: torch's handler of SIGCHLD noticed a dead process only now.
    """
    try:
        batches._shutdown_workers()  # type: ignore[attr-defined]  # no public name; waits 5 s for each at most
    finally:
        for process in processes:
            process.kill()  # a stopped one would not hear anything else, and this process would wait for it at its end
        for process in processes:
            process.join(MARGIN)


class Watchdog:
    """Kills processes that let a wait last too long.

    The loader's own timeout is not enough: with the batch's place in shared memory already received, torch asks the
    process for the memory's descriptor, and waits for the answer of a stopped process without end.

    Args:
        processes: to kill.
        seconds: that one wait may last; 0 or less never ends.
    """

    def __init__(self, processes: Collection[multiprocessing.process.BaseProcess], seconds: float) -> None:
        self.fired = False
        self._processes = processes
        self._seconds = seconds
        self._since: float | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Watchdog:
        if self._seconds > MARGIN:
            threading.Thread(target=self._watch, daemon=True, name="loading-watchdog").start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()

    def guarded(self, batches: Iterator[Batch]) -> Batch | None:
        """The next batch, waited for within the bound; ``None`` at the end."""
        self._since = time.monotonic()
        try:
            return next(batches, None)
        finally:
            self._since = None

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._seconds / 4)):
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                self.fired = True
                for process in self._processes:
                    process.kill()
                return
