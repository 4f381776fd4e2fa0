"""The processes of one run, as their launcher describes them in the environment. Imports no torch.

torchrun, and the elastic launch behind ``run.devices``, give every process ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``,
``LOCAL_WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT``; a cluster's job script can do the same.
"""

from __future__ import annotations

import os
import sys

_GROUP = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def processes() -> int:
    """How many processes a launcher started for this run; 1 where no launcher did."""
    return max(1, _number("WORLD_SIZE", 1)) if all(os.environ.get(name) for name in _GROUP) else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return _number("RANK", 0) if processes() > 1 else 0


def local_processes() -> int:
    """How many of them run on this machine: all of them where the launcher does not say."""
    return _number("LOCAL_WORLD_SIZE", processes()) if processes() > 1 else 1


def local_rank() -> int:
    """The number of this process among those of this machine."""
    return _number("LOCAL_RANK", rank() % max(1, local_processes())) if processes() > 1 else 0


def silence_followers() -> None:
    """The first process speaks for all: what another one prints goes nowhere, but for ``sys.__stderr__``."""
    if rank() > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default
