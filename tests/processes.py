"""Runs a function in several processes of one gloo group and returns what each of them gave."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn


def together(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``function(*arguments)``, of a module, in ``count`` processes; tensors and plain containers by rank."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_enter, (count, folder, function, arguments), nprocs=count)
        return [torch.load(Path(folder) / str(rank)) for rank in range(count)]


def _enter(rank: int, count: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    try:
        torch.save(function(*arguments), Path(folder) / str(rank))
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
