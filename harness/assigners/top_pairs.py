"""The best candidates of every object, and one object for every candidate.

Every object names its best candidates, a pair each; a candidate that several objects name goes to one of them. Pairs
are ``(*, G, k)`` tensors: the rank among an object's candidates is the last dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.structures import NEGATIVE

_RUN = 64  # candidates


def lowest(cost: Tensor, k: int) -> Tensor:
    """``(*, G, k)`` int64: the ``k`` candidates of the lowest ``cost (*, G, N)`` float32, in order.

    Exact ties go to the lower index. :func:`torch.topk` leaves them to chance, that is to the device, the number of
    candidates and the padding.
    """
    return _first(cost, k, largest=False)


def highest(value: Tensor, k: int) -> Tensor:
    """``(*, G, k)`` int64: the ``k`` candidates of the highest ``value (*, G, N)`` float32, in order, ties as above."""
    return _first(value, k, largest=True)


def _first(values: Tensor, k: int, largest: bool) -> Tensor:
    """In two steps, which reads the whole tensor once: the ``k`` runs of candidates with the best members hold the
    ``k`` best candidates, ties included, because the runs are compared in order as well."""
    count = values.shape[-1]
    if count <= 2 * k * _RUN:
        return _first_directly(values, k, largest)
    whole = count // _RUN * _RUN
    runs = values[..., :whole].unflatten(-1, (whole // _RUN, _RUN))
    best = runs.amax(-1) if largest else runs.amin(-1)
    if whole < count:
        rest = values[..., whole:]
        best = torch.cat((best, rest.amax(-1, keepdim=True) if largest else rest.amin(-1, keepdim=True)), -1)
    run = _first_directly(best, k, largest).sort(-1).values
    member = (run.unsqueeze(-1) * _RUN + torch.arange(_RUN, device=run.device)).flatten(-2)
    found = values.gather(-1, member.clamp(max=count - 1))
    found = found.masked_fill(member >= count, -torch.inf if largest else torch.inf)
    return member.gather(-1, _first_directly(found, k, largest))


def _first_directly(values: Tensor, k: int, largest: bool) -> Tensor:
    """Orders by (value, index), packed into one integer: all are different, so there are no ties."""
    bits = (values + 0.0).contiguous().view(torch.int32)  # makes -0 a 0
    # The bits of a float order like the float, except that negative ones run backwards.
    ordered = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    if largest:
        ordered = ordered.bitwise_not_()
    key = ordered.long().bitwise_left_shift_(32).bitwise_or_(torch.arange(values.shape[-1], device=values.device))
    return key.topk(k, largest=False).values.bitwise_and_(0xFFFFFFFF)


def one_object_each(index: Tensor, chosen: Tensor, rival: Tensor) -> Tensor:
    """``(*, N)`` int64: the object that named the candidate, NEGATIVE where none did.

    Args:
        index: ``(*, G, k)`` candidates of every object.
        chosen: ``(*, G, k)`` bool, the pairs that count.
        rival: ``(*, N)`` int64, the object that gets a candidate which several objects named.
    """
    # Pairs that do not count are written to a slot behind the last candidate.
    slot = index.masked_fill(~chosen, rival.shape[-1]).flatten(-2)
    shape = (*rival.shape[:-1], rival.shape[-1] + 1)
    objects = torch.arange(index.shape[-2], device=index.device).unsqueeze(-1).expand(index.shape).flatten(-2)
    times = rival.new_zeros(shape).scatter_add(-1, slot, torch.ones_like(slot))[..., :-1]
    named = rival.new_zeros(shape).scatter_reduce(-1, slot, objects, "amax")[..., :-1]
    return torch.where(times == 0, NEGATIVE, torch.where(times == 1, named, rival))


def highest_pair(index: Tensor, chosen: Tensor, value: Tensor, count: int) -> Tensor:
    """``(*, N)`` int64: of the objects that named a candidate, the one of highest ``value``; the first of equal ones.

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
    return slot.new_full(shape, index.shape[-2]).scatter_reduce(-1, slot, first, "amin")[..., :-1]


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
    index = lowest(cost, topk)
    rank = torch.arange(topk, device=cost.device)
    chosen = (rank < quota) & cost.gather(-1, index).isfinite()
    return one_object_each(index, chosen, lowest_object(cost))


def _first_object(pairs: Tensor) -> Tensor:
    objects = torch.arange(pairs.shape[-2], dtype=torch.int32, device=pairs.device).unsqueeze(-1)
    return torch.where(pairs, objects, pairs.shape[-2]).amin(-2).long()
