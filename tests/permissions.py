"""Permission bits that count for the superuser, too, so that tests of what may not be written run everywhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_IGNORES_BITS = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capabilities(7)
_VERSION = 0x20080522  # of the structures of capset(2)


@contextmanager
def bits_count() -> Iterator[None]:
    """Inside, this process may read and write only what permission bits allow; skips where that cannot be had."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("the superuser may write everywhere")
    system = ctypes.CDLL(None, use_errno=True)
    header, capabilities = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    if system.capget(header, capabilities) != 0:
        pytest.skip("the superuser's capabilities cannot be read here")
    before = capabilities[0]
    capabilities[0] &= ~_IGNORES_BITS  # effective ones only: they are taken back below
    assert system.capset(header, capabilities) == 0
    try:
        yield
    finally:
        capabilities[0] = before
        assert system.capset(header, capabilities) == 0


def let_bits_count() -> None:
    """The same for the rest of this process: the ``before`` of :func:`tests.processes.harness`."""
    bits_count().__enter__()
