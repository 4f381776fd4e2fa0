"""The processes that train one run together: whether that can be, and the group that they join."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.runs import launched
from harness.runs.schema import ConfigError, RunConfig


def processes_of(run: RunConfig) -> int:
    """How many processes train: ``run.devices``, or as many as a launcher started.

    Raises:
        ConfigError: so many cannot; the line says why, and what can be.
    """
    started = launched.processes()
    if started > 1 and run.devices not in (1, started):
        raise ConfigError(
            f"run.devices={run.devices}: {started} processes were started already (WORLD_SIZE); leave run.devices out"
        )
    count = max(started, run.devices)
    if count == 1:
        return 1
    parts = count * run.accumulate
    if run.batch_size % parts:
        accumulated = f" and run.accumulate={run.accumulate}" if run.accumulate > 1 else ""
        raise ConfigError(
            f"run.batch_size={run.batch_size}: cannot be cut into equal parts for {count} processes{accumulated}; "
            f"choose a multiple of {parts}"
        )
    _check_devices(run.device, min(count, launched.local_processes() if started > 1 else count))
    return count


def _check_devices(device: str, count: int) -> None:
    """Refuses ``count`` processes on one machine where each cannot have a device of its own."""
    kind, _, index = device.partition(":")
    if index:
        raise ConfigError(f"run.device={device}: is one device, and run.devices={count}; use run.device={kind}")
    if kind == "mps" or (kind == "auto" and not torch.cuda.is_available() and torch.backends.mps.is_available()):
        raise ConfigError(f"run.devices={count}: several processes train on CUDA or the CPU, not on MPS")
    if uses_cuda(device) and count > torch.cuda.device_count():
        raise ConfigError(
            f"run.devices={count}: only {torch.cuda.device_count()} CUDA device(s) are visible here; use at most as "
            "many, or run.device=cpu"
        )


def uses_cuda(device: str) -> bool:
    """Whether ``run.device`` comes to CUDA here."""
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def module_refusals(model: nn.Module, run: RunConfig) -> list[str]:
    """Why a detector cannot be trained by several processes as by one: one line each.

    Args:
        model: the plain detector.
        run: its ``devices`` are known to be possible.
    """
    if max(launched.processes(), run.devices) == 1:
        return []
    lines = []
    if not uses_cuda(run.device) and any(isinstance(module, _BatchNorm) for module in model.modules()):
        lines.append(
            "detector: has BatchNorm, whose statistics would be those of a share of the batch in each process, and "
            "torch synchronizes them on CUDA only; use run.devices=1, or a detector with frozen or group normalization"
        )
    transform: Any = model.get_submodule("transform")
    if len(transform.min_size) > 1:
        lines.append(
            f"detector.min_size={list(transform.min_size)}: of several sizes one is drawn for each image, and each "
            "process would draw others; use one size, with augment=multi_scale for several"
        )
    return lines


def synchronize_batch_norm(model: nn.Module) -> None:
    """Lets every BatchNorm below ``model`` take its statistics over all processes, in place; parameters stay."""
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Inside, this process is one of the group that its launcher set up; without one, nothing happens.

    Tensors on the CPU are sent with gloo, those on CUDA with NCCL.

    Args:
        device: ``run.device``.
    """
    if launched.processes() == 1:
        yield
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if uses_cuda(device) else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
