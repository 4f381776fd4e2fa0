"""Which slots are the hardest of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.processes import reduce_sum
from harness.losses.whole_batch import WholeBatch


@torch.no_grad()
def hardest_share(values: Tensor, weight: Tensor | None, fraction: float) -> Tensor:
    """``(*, S)``: what each slot counts for, if only the hardest share of the batch's slots is kept.

    A slot that is kept counts ``slots / kept``, so that the mean over all slots is the mean over those kept; the
    others count 0. At least one is kept; of equal values the first.

    Args:
        values: ``(*, S)`` losses.
        weight: ``(*, S)``; a slot of weight 0 does not exist.
        fraction: in (0, 1].
    """
    exists = torch.ones_like(values, dtype=torch.bool) if weight is None else weight > 0
    count = reduce_sum(exists.sum())
    # 0.7 of 90 is 62.99... in floating point and 63 in the paper.
    kept = (count * fraction + 1e-4).floor().clamp(min=1)
    batch = WholeBatch(values.shape)
    loss = batch.gather(values.masked_fill(~exists, -torch.inf), -torch.inf).flatten()
    order = loss.argsort(descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
    hardest = batch.own(rank < kept).view(values.shape)
    return (hardest & exists).to(loss.dtype).mul(count / kept)
