"""The alignment of class and box as a soft target (TOOD)."""

from __future__ import annotations

import torch
from torch import Tensor


def normalized_alignment(alignment: Tensor, overlap: Tensor, gt_index: Tensor, objects: int, eps: float) -> Tensor:
    """``(*, N)`` quality of the positives in [0, 1], 0 elsewhere (Feng et al. 2021, "TOOD", equation 6).

    The alignment, scaled so that the best positive of each object reaches the highest overlap among its positives.

    Args:
        alignment: ``(*, N)`` of each candidate with its own object.
        overlap: ``(*, N)`` likewise.
        gt_index: ``(*, N)`` int64, negative where a candidate has no object.
        objects: G, the number of objects.
        eps: added to the best alignment, which divides.
    """
    if objects == 0:
        return torch.zeros_like(alignment)
    positive = gt_index >= 0
    slot = gt_index.clamp(min=0)
    none = alignment.new_zeros((*gt_index.shape[:-1], objects))
    alignment, overlap = alignment * positive, overlap * positive
    best_alignment = none.scatter_reduce(-1, slot, alignment, "amax").gather(-1, slot)
    best_overlap = none.scatter_reduce(-1, slot, overlap, "amax").gather(-1, slot)
    return alignment * best_overlap / (best_alignment + eps)


def power(values: Tensor, exponent: float) -> Tensor:
    """``values ** exponent``. Torch multiplies for exponents up to 3 only: so 6 takes an eighth of the time."""
    if exponent > 3 and exponent % 2 == 0:
        return power(values.square(), exponent / 2)
    return values.pow(exponent)
