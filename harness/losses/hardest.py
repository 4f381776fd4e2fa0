"""Which slots are the hardest of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def hardest_share(values: Tensor, weight: Tensor | None, fraction: float) -> Tensor:
    """``(*, S)``: what each slot counts for, if only the hardest share of the slots that exist is kept.

    A slot that is kept counts ``slots / kept``, so that the mean over all slots is the mean over those kept; the
    others count 0. At least one is kept; of equal values the first.

    Args:
        values: ``(*, S)`` losses.
        weight: ``(*, S)``; a slot of weight 0 does not exist.
        fraction: in (0, 1].
    """
    loss = values.flatten()
    exists = torch.ones_like(loss, dtype=torch.bool) if weight is None else (weight > 0).flatten()
    count = exists.sum()
    # 0.7 of 90 is 62.99... in floating point and 63 in the paper.
    kept = (count * fraction + 1e-4).floor().clamp(min=1)
    order = loss.masked_fill(~exists, -torch.inf).argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
    return ((rank < kept) & exists).to(loss.dtype).mul(count / kept).view(values.shape)
