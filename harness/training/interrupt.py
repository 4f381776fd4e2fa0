"""Signals that ask a process to stop: a run ends between two steps, with its state saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

# What shells and schedulers send: Ctrl-C, kill, a closed terminal, a warning before preemption or the end of the time.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
GRACE = 3.0  # seconds in which further signals belong to the first: a terminal and a parent process may both send one
LOOK_EVERY = 0.5  # seconds between two looks at the stop file


class Interrupted(Exception):
    """The run was asked to stop and its state is saved."""


class StopRequested(KeyboardInterrupt):
    """A signal arrived where nothing has to be saved; ``str()`` is its name, such as ``SIGTERM``."""


class StopSignals:
    """While entered, signals raise :class:`StopRequested`, or are only noted inside :meth:`deferred`.

    Signals within ``GRACE`` seconds of the first are taken for the same wish; a later one raises in any case, so that
    a process that hangs while it saves can be ended. Blocks may be nested: an outer one knows what an inner one heard.

    Args:
        stop_file: ends the run like a signal as soon as it exists; how a sweep stops jobs in other processes.
    """

    def __init__(self, stop_file: Path | None = None) -> None:
        self.asked: str | None = None
        self._asked_at = 0.0
        self.stop_file = stop_file
        self._looked_at = -LOOK_EVERY
        self._deferring = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, StopSignals) and self.asked and not outer.asked:
                outer.asked, outer._asked_at = self.asked, self._asked_at
        self._previous.clear()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal is only noted, for the caller to look at with :meth:`requested`.

        Raises:
            StopRequested: on leaving without another exception, where a signal was noted.
        """
        before, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = before
        if self.asked and not before:
            raise StopRequested(self.asked)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, within :meth:`deferred`, a signal raises again: for long work that has nothing to save.

        Raises:
            StopRequested: on entering, where a signal was noted before.
        """
        before, self._deferring = self._deferring, False
        try:
            if self.asked:
                raise StopRequested(self.asked)
            yield
        finally:
            self._deferring = before

    def requested(self) -> str | None:
        """The name of the signal that asked to stop, or ``a stopped sweep``; ``None`` where nothing did."""
        if self.asked is None and self.stop_file is not None and time.monotonic() - self._looked_at >= LOOK_EVERY:
            self._looked_at = time.monotonic()
            if self.stop_file.exists():
                self.note("a stopped sweep")
        return self.asked

    def note(self, name: str) -> None:
        """Takes down who asked to stop, and when."""
        self.asked, self._asked_at = name, time.monotonic()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        first = self.asked is None
        if first:
            self.note(signal.Signals(number).name)
        if (first and not self._deferring) or (not first and time.monotonic() - self._asked_at > GRACE):
            raise StopRequested(signal.Signals(number).name)
