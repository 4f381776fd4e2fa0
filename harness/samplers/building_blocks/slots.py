"""From a choice to the fixed slots of a sampling result, and noise for a choice in two steps."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.structures import SamplingResult


def second_noise(noise: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), ``(*, N)`` float32, that are as good as independent of the ``noise`` they stem from.

    A choice in two steps needs them: candidates that were rejected in the first draw have biased noise, so that the
    second draw needs independent numbers. The bits are mixed by two multiplications and shifts, as a hash does.
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
