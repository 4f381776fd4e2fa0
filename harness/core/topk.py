"""The one deterministic top-k: every choice of "the first k" in assigners and samplers is made here.

A number is compared by its place in the order of the floats, an int32 code, and **among equal codes the lowest index
goes first**. :func:`torch.topk` leaves ties to chance: to the device, the number of candidates and the padding. Here a
code and its index form one int64 key. The keys of a row are all different, so that a choice never depends on how an
algorithm treats ties, nor on what an image is padded or batched with.

Few of many are found in two steps: the k runs of neighboring candidates that have the best members hold the k best
candidates, so most of the numbers are read once, in a plain maximum, and only the members of k runs are ranked. On a
CPU most time goes into fresh memory (measured, 16 x 200,000 candidates): hence codes of four bytes that are changed in
place, and keys only for the candidates that are in question.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

NEVER = -(1 << 31)  # the code of a candidate that cannot be chosen; below the code of -inf
INDEX_BITS = 28  # of a key, for the index: up to 268 million candidates
_LAST = (1 << INDEX_BITS) - 1

# Candidates of a run, measured on a CPU: 16 for hundreds of 200,000 candidates, 64 for about ten of each object.
RUN_FOR_MANY, RUN_FOR_FEW = 16, 64


def order_code(values: Tensor) -> Tensor:
    """``(*, N)`` int32 codes in the order of the floats ``values (*, N)``, compared in float32; NaN counts as -inf."""
    # Adding 0 turns -0 into 0, so that both are equal: -log(1) is -0.
    number = (values.float() + 0.0).nan_to_num_(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    bits = number.contiguous().view(torch.int32)  # IEEE 754: the order of magnitudes; negative numbers run backwards
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


def largest(code: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices ``(*, count)`` of the largest codes, from first to last, and whether they may be chosen, bool.

    Args:
        code: ``(*, N)`` int32, ``NEVER`` where not to be chosen.
        count: at most ``N``.
    """
    keys = _first_keys(code, count, run=RUN_FOR_MANY, smallest=False)
    return _index_of(keys), _code_of(keys) > NEVER


def mask_of_largest(code: Tensor, count: Tensor, at_most: int) -> Tensor:
    """``(*, N)`` bool: the ``count`` largest codes of each row, fewer where fewer may be chosen.

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
    if most == size:  # ordering everything is faster by a sort than by a top-k
        keys = _keys(code, index).sort(-1, descending=True).values
    else:
        keys = _first_keys(code, most, run=RUN_FOR_MANY, smallest=False)
    last = keys.gather(-1, (count - 1).clamp(min=0, max=most - 1))
    last_code, last_index = _code_of(last), _index_of(last)
    before = (code > last_code) | ((code == last_code) & (index <= last_index))
    return before & (code > NEVER) & (count > 0)


def highest_of_each(values: Tensor, k: int) -> Tensor:
    """``(*, G, k)`` int64: the ``k`` candidates of the highest ``values (*, G, N)`` float32, without NaN, in order."""
    return _index_of(_first_keys(values, k, run=RUN_FOR_FEW, smallest=False))


def lowest_of_each(values: Tensor, k: int) -> Tensor:
    """``(*, G, k)`` int64: the ``k`` candidates of the lowest ``values (*, G, N)`` float32, without NaN, in order."""
    return _index_of(_first_keys(values, k, run=RUN_FOR_FEW, smallest=True))


def nearest(distance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` candidates of the lowest ``distance (*, G, N)``, ranked in float32, as a fixed number of slots.

    There are ``k`` slots also where there are fewer candidates, so that what is summed over the slots does not depend
    on the padding.

    Returns:
        ``(*, G, k)`` int64 indices in order of the distance, and ``(*, G, k)`` bool, False where a slot has no
        candidate at a finite distance.
    """
    distance = distance.float()
    missing = k - distance.shape[-1]
    if missing > 0:
        distance = pad(distance, (0, missing), value=math.inf)
    index = lowest_of_each(distance, k)
    real = distance.gather(-1, index).isfinite()
    return index.masked_fill(~real, 0), real


def rank_within(values: Tensor, group: Tensor) -> Tensor:
    """``(*, N)`` int64: how many of its group go before each candidate: the smaller value first, then the lower index.

    Args:
        values: ``(*, N)`` float, NaN as -inf.
        group: ``(*, N)`` int64 in [0, 2^31).
    """
    order = ((group << 32) + order_code(values)).sort(stable=True, dim=-1).indices
    ordered = group.gather(-1, order)
    place = torch.arange(group.shape[-1], device=group.device).expand(group.shape)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    start = torch.where(begins, place, 0).cummax(-1).values if group.shape[-1] else place
    return torch.zeros_like(place).scatter(-1, order, place - start)


def _first_keys(values: Tensor, count: int, *, run: int, smallest: bool) -> Tensor:
    """``(*, count)`` keys of the first of ``values (*, N)``, int32 codes or float32, in descending order."""
    size = values.shape[-1]
    runs = size // run
    index = torch.arange(size, device=values.device)
    if runs > 2 * count:
        whole = values[..., : runs * run].unflatten(-1, (runs, run))
        best = whole.amin(-1) if smallest else whole.amax(-1)
        chosen = _keys(_ordered(best, smallest), index[:runs]).topk(count, sorted=False).indices
        inside = (chosen.unsqueeze(-1) * run + index[:run]).flatten(-2)
        rest = index[runs * run :]  # fewer than a run: they are always ranked
        index = torch.cat((inside, rest.expand(*inside.shape[:-1], len(rest))), -1)
        values = values.gather(-1, index)
    return _keys(_ordered(values, smallest), index).topk(count).values


def _ordered(values: Tensor, smallest: bool) -> Tensor:
    """The int32 codes by which the first of ``values`` is the largest."""
    code = values if values.dtype == torch.int32 else order_code(values)
    return code.bitwise_not() if smallest else code


def _keys(code: Tensor, index: Tensor) -> Tensor:
    """Distinct int64 keys of codes and their indices: the larger code and then the lower index has the larger key."""
    return (code.long() << INDEX_BITS) + (_LAST - index)


def _code_of(keys: Tensor) -> Tensor:
    return keys >> INDEX_BITS


def _index_of(keys: Tensor) -> Tensor:
    return _LAST - (keys & _LAST)
