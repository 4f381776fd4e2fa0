"""The one place where priorities become a choice.

A candidate's key is one int64: its priority's place in the order of the floats, then its index. The keys of an image
all differ, so a choice never depends on how an algorithm treats ties, nor on what an image is padded or batched with:
**among equal priorities the lowest index goes first**, NaN goes last and +inf first. Keys have a second merit: a top-k
of int64 takes two thirds, and a sort half of the time of float32's on a CPU (measured, 16 x 200,000).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.types import Sample

INDEX_BITS = 28  # below them an image's candidates are told apart: up to 268 million
CODE_BITS = 32  # of a float32's place in the order


def order_code(priority: Tensor) -> Tensor:
    """``(*, N)`` int32 in the same order as the float ``priority (*, N)``, which counts in float32; NaN as -inf."""
    bits = torch.nan_to_num(priority.float(), nan=-math.inf, posinf=math.inf, neginf=-math.inf).add_(0.0)
    bits = bits.view(torch.int32)  # IEEE 754: the order of magnitudes; negative numbers must be turned round
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def rank_keys(priority: Tensor, first: Tensor | None = None) -> Tensor:
    """Distinct int64 keys ``(*, N)``, at least 1: the larger the earlier.

    Args:
        priority: ``(*, N)`` float, the larger the earlier.
        first: ``(*, N)`` bool, candidates that go before all others whatever their priority.
    """
    size = priority.shape[-1]
    # 2 ** (CODE_BITS - 1) makes the codes positive; both constants together cost one addition.
    base = (1 << (INDEX_BITS + CODE_BITS - 1)) + (1 << INDEX_BITS) - 1
    keys = order_code(priority).long()
    keys <<= INDEX_BITS
    keys += base - torch.arange(size, device=priority.device)
    if first is not None:
        keys += first.long() << (INDEX_BITS + CODE_BITS)
    return keys


def highest(keys: Tensor, count: Tensor, at_most: int) -> Tensor:
    """``(*, N)`` bool: the ``count`` largest keys of each row, fewer where fewer are above 0.

    Args:
        keys: ``(*, N)`` int64, distinct where above 0; 0 can not be chosen.
        count: ``(*, 1)`` int64.
        at_most: what no count exceeds; the smaller the faster.
    """
    most = min(at_most, keys.shape[-1])
    if most == 0:
        return torch.zeros_like(keys, dtype=torch.bool)
    # A full order is cheaper by a sort than by a top-k of everything.
    top = keys.sort(-1, descending=True).values if most == keys.shape[-1] else keys.topk(most).values
    threshold = top.gather(-1, (count - 1).clamp(min=0, max=most - 1))
    return (keys >= threshold) & (keys > 0) & (count > 0)


def rank_within(noise: Tensor, group: Tensor) -> Tensor:
    """``(*, N)`` int64: how many of its group go before each candidate, the smaller noise first, by index in a tie.

    Args:
        noise: ``(*, N)`` float.
        group: ``(*, N)`` int64 in [0, 2^31).
    """
    order = ((group << CODE_BITS) + order_code(noise)).sort(stable=True, dim=-1).indices
    ordered = group.gather(-1, order)
    place = torch.arange(group.shape[-1], device=group.device).expand(group.shape)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    start = torch.where(begins, place, 0).cummax(-1).values if group.shape[-1] else place
    return torch.zeros_like(place).scatter(-1, order, place - start)


def second_noise(noise: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), ``(*, N)`` float32, that are as good as independent of the ``noise`` they stem from.

    A choice in two steps needs them: who stayed behind in the first step has, by that, a large (or small) noise. The
    bits are mixed by two multiplications and shifts, as a hash does.
    """
    mask = (1 << 32) - 1
    bits = (noise.float() * (1 << 24)).long()
    bits = ((bits ^ (bits >> 11)) * 0x9E3779B1 + 0x7F4A7C15) & mask
    bits = ((bits ^ (bits >> 15)) * 0x85EBCA77) & mask
    return ((bits ^ (bits >> 13)) >> 8).float() / (1 << 24)


def fill_slots(
    keys: Tensor, positive: Tensor, negative: Tensor, num_pos: Tensor, num_neg: Tensor, *, most_pos: int, slots: int
) -> Sample:
    """The first ``num_pos`` positives, then the first ``num_neg`` negatives, each from first to last, in fixed slots.

    Args:
        keys: ``(*, N)`` from :func:`rank_keys`.
        positive: ``(*, N)`` bool.
        negative: ``(*, N)`` bool.
        num_pos: ``(*, 1)`` int64, not more than there are, nor than ``most_pos``.
        num_neg: ``(*, 1)`` int64; fewer are taken where there are fewer.
        most_pos: a bound on ``num_pos``.
        slots: of the sample, at least ``num_pos + num_neg``; an image has at most ``N``.
    """
    size = keys.shape[-1]
    slots, most_pos = min(slots, size), min(most_pos, slots, size)
    # One tensor serves both: positives lie at its low end, negatives at its high end, the others are 0.
    signed = keys * (negative.to(torch.int8) - positive.to(torch.int8))
    pos_index = signed.topk(most_pos, largest=False).indices
    best_negatives = signed.topk(slots)
    num_neg = torch.minimum(num_neg, (best_negatives.values > 0).sum(-1, keepdim=True))

    slot = torch.arange(slots, device=keys.device).expand(*keys.shape[:-1], slots)
    is_positive = slot < num_pos
    used = slot < num_pos + num_neg
    place = torch.where(is_positive, slot, slot - num_pos + most_pos)
    index = torch.cat((pos_index, best_negatives.indices), -1).gather(-1, place.masked_fill(~used, 0))
    return Sample(index.masked_fill(~used, 0), is_positive, used.float())


def keep_in_order(positive: Tensor, negative: Tensor) -> Sample:
    """All candidates in their order, of weight 1 where ``positive`` or ``negative``, each ``(*, N)`` bool."""
    index = torch.arange(positive.shape[-1], device=positive.device).expand(positive.shape)
    return Sample(index, positive, (positive | negative).float(), in_order=True)
