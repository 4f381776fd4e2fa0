"""Locks between processes that end with the process that holds them, on Linux, macOS and Windows."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
import weakref
from pathlib import Path
from typing import IO

log = logging.getLogger("harness")

_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN}

if sys.platform == "win32":
    import msvcrt

    _BUSY |= {errno.EACCES, errno.EDEADLK}  # what msvcrt.locking raises while another process holds the lock

    def _lock(file: IO[str], shared: bool) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str], shared: bool) -> None:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


class FileLock:
    """An exclusive lock on a file, released by the operating system when the process ends, however it ends.

    A forked child (a loading worker, say) does not keep the lock of a parent that was killed: it closes its copy. On a
    file system without locks (``ENOLCK``, ``ENOSYS``, ...) the lock is taken to be free, with a warning.

    Args:
        path: of the file; it is created if missing, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, patience: float = 1.0) -> bool:
        """Takes the lock; false where another process still holds it after ``patience`` seconds.

        The patience is for readers that look whether somebody holds the lock (:func:`is_held`), which takes it for a
        moment.

        Raises:
            OSError: the file cannot be opened.
        """
        file = self.path.open("a")
        deadline = time.monotonic() + patience
        while not _try(file, shared=False):
            if time.monotonic() >= deadline:
                file.close()
                return False
            time.sleep(0.02)
        self._file = file
        _held.add(self)
        return True

    def release(self) -> None:
        """Lets the lock go; does nothing where it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None
            _held.discard(self)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on this file: true also where that cannot be known."""
    try:
        with path.open("r" if sys.platform != "win32" else "r+") as file:
            _lock(file, shared=True)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _try(file: IO[str], shared: bool) -> bool:
    """Whether the lock was taken; on a file system without locks it is, with a warning."""
    try:
        _lock(file, shared)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        log.warning(
            "%s: this file system has no locks (%s): do not start the same run twice at the same time",
            file.name,
            error.strerror,
        )
    return True


# A lock of flock() belongs to the open file, which a forked child shares. Without the next lines the workers of a
# killed run would hold its lock until they notice that they are alone.
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
