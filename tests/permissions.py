"""Permission bits that count for the superuser, too, so that tests of what may not be written run everywhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

_IGNORES_BITS = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capabilities(7)
_VERSION = 0x20080522  # of the structures of capset(2)


@contextmanager
def bits_count() -> Iterator[None]:
    """Inside, this process may read and write only what permission bits allow; skips where that cannot be had."""
    before = _effective(lambda now: now & ~_IGNORES_BITS)
    try:
        yield
    finally:
        _effective(lambda now: before)


def let_bits_count() -> None:
    """The same for the rest of this process: a ``before`` of :func:`tests.processes.harness`."""
    _effective(lambda now: now & ~_IGNORES_BITS)


def _effective(change: Callable[[int], int]) -> int:
    """Changes the superuser's effective capabilities, which may be taken back later; returns those from before."""
    if os.geteuid() != 0:
        return 0
    if not sys.platform.startswith("linux"):
        pytest.skip("the superuser may write everywhere")
    system = ctypes.CDLL(None, use_errno=True)
    header, capabilities = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert system.capget(header, capabilities) == 0
    before = capabilities[0]
    capabilities[0] = change(before)
    assert system.capset(header, capabilities) == 0
    return before
