"""In which precision numbers are computed: never in half, and in float64 where a device has it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """At least float32: losses and probabilities are not taken in half precision. A double stays one."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def double_precision(values: Tensor) -> Tensor:
    """``values`` in float64, or in float32 on a device that has no float64 (MPS)."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def autocasts(device: torch.device) -> bool:
    """Whether autocast rounds on ``device`` here; never on the meta device, about which torch refuses to answer."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def out_of_autocast(values: Tensor) -> Tensor:
    """At least float32 under autocast, else as they are.

    For numbers that become boxes which RoIAlign reads: a coordinate of 300 px has steps of 2 px in bfloat16. Outside of
    autocast RoIAlign wants boxes of the type of the features, which a model that is itself in half precision gives.
    """
    return full_precision(values) if autocasts(values.device) else values


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside, products of matrices keep the precision of their inputs, which autocast on ``device`` would round."""
    if not autocasts(device):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
