"""One object for every candidate, where several objects chose it.

Every object chooses its best candidates (:mod:`harness.core.topk`), a pair each; a candidate that several objects chose
goes to one of them. Pairs are ``(*, G, k)`` tensors: the rank among an object's candidates is the last dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.structures import NEGATIVE
from harness.core.topk import lowest_of_each


def one_object_each(index: Tensor, chosen: Tensor, rival: Tensor) -> Tensor:
    """``(*, N)`` int64: the object that chose the candidate, NEGATIVE where none did.

    Args:
        index: ``(*, G, k)`` candidates of every object.
        chosen: ``(*, G, k)`` bool, the pairs that count.
        rival: ``(*, N)`` int64, the object that gets a candidate which several objects chose.
    """
    # Pairs that do not count are written to a slot behind the last candidate.
    slot = index.masked_fill(~chosen, rival.shape[-1]).flatten(-2)
    shape = (*rival.shape[:-1], rival.shape[-1] + 1)
    objects = torch.arange(index.shape[-2], device=index.device).unsqueeze(-1).expand(index.shape).flatten(-2)
    times = rival.new_zeros(shape).scatter_add(-1, slot, torch.ones_like(slot))[..., :-1]
    named = rival.new_zeros(shape).scatter_reduce(-1, slot, objects, "amax")[..., :-1]
    return torch.where(times == 0, NEGATIVE, torch.where(times == 1, named, rival))


def highest_pair(index: Tensor, chosen: Tensor, value: Tensor, count: int) -> Tensor:
    """``(*, N)`` int64: of the objects that chose a candidate, the one of highest ``value``; the first of equal ones;
    NEGATIVE where none did.

    Args:
        index: ``(*, G, k)`` candidates of every object.
        chosen: ``(*, G, k)`` bool, the pairs that count.
        value: ``(*, G, k)``, finite.
        count: N.
    """
    objects = torch.arange(index.shape[-2], device=index.device).unsqueeze(-1).expand(index.shape).flatten(-2)
    slot, value = index.masked_fill(~chosen, count).flatten(-2), value.flatten(-2)
    shape = (*index.shape[:-2], count + 1)
    best = value.new_full(shape, -torch.inf).scatter_reduce(-1, slot, value, "amax")
    first = torch.where(value == best.gather(-1, slot), objects, index.shape[-2])
    first = slot.new_full(shape, index.shape[-2]).scatter_reduce(-1, slot, first, "amin")[..., :-1]
    return torch.where(first < index.shape[-2], first, NEGATIVE)


def lowest_object(cost: Tensor) -> Tensor:
    """``(*, N)`` int64: the object of lowest ``cost (*, G, N)``; the first of equal ones, on every device."""
    return _first_object(cost == cost.amin(-2, keepdim=True))


def highest_object(value: Tensor) -> Tensor:
    """``(*, N)`` int64: the object of highest ``value (*, G, N)``; the first of equal ones, on every device."""
    return _first_object(value == value.amax(-2, keepdim=True))


def match_dynamic_k(cost: Tensor, iou: Tensor, topk: int) -> Tensor:
    """``(*, N)`` int64: the object of every candidate by SimOTA's simplified transport (YOLOX, section 2.1).

    An object takes as many candidates as its ``topk`` best IoUs sum up to, rounded down, at least one: those of lowest
    cost. A candidate that several objects take goes to the object of lowest cost among *all* of them.

    Args:
        cost: ``(*, G, N)`` float32, infinite for pairs that must not be.
        iou: ``(*, G, N)`` in [0, 1], 0 for pairs that must not be.
        topk: how many IoUs are summed, and the most candidates an object can have.
    """
    *batch, objects, count = cost.shape
    if objects == 0 or count == 0:
        return torch.full((*batch, count), NEGATIVE, device=cost.device)
    topk = min(topk, count)
    quota = iou.topk(topk).values.sum(-1, keepdim=True).long().clamp_(min=1)
    index = lowest_of_each(cost, topk)
    rank = torch.arange(topk, device=cost.device)
    chosen = (rank < quota) & cost.gather(-1, index).isfinite()
    return one_object_each(index, chosen, lowest_object(cost))


def _first_object(pairs: Tensor) -> Tensor:
    objects = torch.arange(pairs.shape[-2], dtype=torch.int32, device=pairs.device).unsqueeze(-1)
    return torch.where(pairs, objects, pairs.shape[-2]).amin(-2).long()
