"""The one place where priorities become a choice.

A priority is looked at as its place in the order of the floats, an int32 code, and among equal codes **the lowest index
goes first**; NaN goes last and +inf first. Code and index together are one int64 key. Keys of an image all differ, so a
choice never depends on how an algorithm treats ties, nor on what an image is padded or batched with.

On a CPU the time goes into fresh memory (measured, 16 x 200,000): hence codes of four bytes, changed in place, and
keys only for the few candidates that are in question.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.core.structures import SamplingResult

NEVER = -(1 << 31)  # the code of a candidate that cannot be chosen; below -inf
INDEX_BITS = 28  # below the code, an index: up to 268 million candidates
CHUNK = 16  # measured on a CPU: as fast as 64 for 200,000 candidates, and faster for fewer


def order_code(priority: Tensor) -> Tensor:
    """``(*, N)`` int32 in the same order as the float ``priority (*, N)``, which counts in float32; NaN as -inf."""
    # Adding 0 turns -0 into 0, so that both are equal: -log(1) is -0.
    value = (priority.float() + 0.0).nan_to_num_(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    bits = value.view(torch.int32)  # IEEE 754: the order of magnitudes; negative numbers must be turned round
    code = bits >> 31
    code &= 0x7FFFFFFF
    code ^= bits
    return code


def among(code: Tensor, allowed: Tensor) -> Tensor:
    """The ``code (*, N)`` where ``allowed (*, N)`` bool, else ``NEVER``."""
    # torch.where takes three times as long on a CPU (measured). Minus one is all bits, NEVER is the sign bit alone:
    # the bound is the largest number where allowed and the smallest elsewhere.
    bound = allowed.to(torch.int32).neg_()
    bound ^= NEVER
    return bound.clamp_(max=code)


def _keys(code: Tensor, index: Tensor) -> Tensor:
    """Distinct int64 keys of codes and their indices."""
    return (code.long() << INDEX_BITS) + ((1 << INDEX_BITS) - 1 - index)


def largest(code: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Who goes first, from first to last: their indices ``(*, count)``, whether they may be chosen, and their keys.

    They lie in the ``count`` chunks whose own first goes first, so that of many candidates most are looked at once, in
    a plain maximum, and only ``count`` chunks are ranked.

    Args:
        code: ``(*, N)`` int32, ``NEVER`` where not to be chosen.
        count: at most ``N``.
    """
    size = code.shape[-1]
    chunks = size // CHUNK
    index = torch.arange(size, device=code.device)
    if chunks > 2 * count:
        best = code[..., : chunks * CHUNK].unflatten(-1, (chunks, CHUNK)).amax(-1)
        chunk = _keys(best, index[:chunks]).topk(count, sorted=False).indices
        inside = (chunk.unsqueeze(-1) * CHUNK + index[:CHUNK]).flatten(-2)
        rest = index[chunks * CHUNK :]
        index = torch.cat((inside, rest.expand(*inside.shape[:-1], len(rest))), -1)
        code = code.gather(-1, index)
    keys, place = _keys(code, index).topk(count)
    return index.expand(code.shape).gather(-1, place), keys >> INDEX_BITS > NEVER, keys


def highest(code: Tensor, count: Tensor, at_most: int) -> Tensor:
    """``(*, N)`` bool: the ``count`` that go first in each row, fewer where fewer may be chosen.

    Args:
        code: ``(*, N)`` int32, ``NEVER`` where not to be chosen.
        count: ``(*, 1)`` int64.
        at_most: what no count exceeds; the smaller the faster.
    """
    size = code.shape[-1]
    most = min(at_most, size)
    if most == 0:
        return torch.zeros_like(code, dtype=torch.bool)
    index = torch.arange(size, device=code.device)
    # A full order is cheaper by a sort than by a top-k of everything.
    keys = _keys(code, index).sort(-1, descending=True).values if most == size else largest(code, most)[2]
    threshold = keys.gather(-1, (count - 1).clamp(min=0, max=most - 1))
    last_code, last_index = threshold >> INDEX_BITS, (1 << INDEX_BITS) - 1 - (threshold & ((1 << INDEX_BITS) - 1))
    before = (code > last_code) | ((code == last_code) & (index <= last_index))
    return before & (code > NEVER) & (count > 0)


def rank_within(noise: Tensor, group: Tensor) -> Tensor:
    """``(*, N)`` int64: how many of its group go before each candidate, the smaller noise first, by index in a tie.

    Args:
        noise: ``(*, N)`` float.
        group: ``(*, N)`` int64 in [0, 2^31).
    """
    order = ((group << 32) + order_code(noise)).sort(stable=True, dim=-1).indices
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


def fill_slots(pos_index: Tensor, num_pos: Tensor, neg_index: Tensor, num_neg: Tensor) -> SamplingResult:
    """The first ``num_pos`` positives, then the first ``num_neg`` negatives, in as many slots as ``neg_index`` has.

    Args:
        pos_index: ``(*, P)`` int64, positives from first to last.
        num_pos: ``(*, 1)`` int64, at most P.
        neg_index: ``(*, S)`` int64, negatives from first to last.
        num_neg: ``(*, 1)`` int64, at most ``S - num_pos``.
    """
    slot = torch.arange(neg_index.shape[-1], device=neg_index.device).expand(neg_index.shape)
    positive = slot < num_pos
    used = slot < num_pos + num_neg
    place = torch.where(positive, slot, slot - num_pos + pos_index.shape[-1]).masked_fill(~used, 0)
    index = torch.cat((pos_index, neg_index), -1).gather(-1, place)
    return SamplingResult(index.masked_fill(~used, 0), positive, used.float())


def keep_in_order(positive: Tensor, negative: Tensor) -> SamplingResult:
    """All candidates in their order, of weight 1 where ``positive`` or ``negative``, each ``(*, N)`` bool."""
    index = torch.arange(positive.shape[-1], device=positive.device).expand(positive.shape)
    return SamplingResult(index, positive, (positive | negative).float(), in_order=True)
