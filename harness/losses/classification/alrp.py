"""Average localization-recall-precision loss: one ranking for classification and localization."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.precision import double_precision
from harness.core.structures import Activation, Need
from harness.losses.interface import ClassificationLoss, Normalizer
from harness.losses.rank_and_sort import EPS, as_ranking
from harness.losses.ranking import RampSums
from harness.losses.whole_batch import WholeBatch


class ALRPLoss(ClassificationLoss):
    """aLRP loss (Oksuz et al. 2020, "A ranking-based, balanced loss function", eq. 9 to 13).

    All columns of all slots of the batch are ranked together. With ``N-`` the negatives and ``rank`` all examples at or
    above a positive, its value is ``N- / rank``. The localization part of aLRP is the mean over the positives of the
    summed box losses of the positives at or above it over its ``rank``: that is a weight of each positive's box loss,
    :meth:`box_factor`, so that accurate boxes matter most where the score is high. Divided by the positives, the
    normalizer of this term, which the box loss needs, too (``loss.normalizer=positives``), the two sums are aLRP.

    The gradient by the logits is error-driven, not the derivative of the value: a positive is pulled up by
    ``(N- + summed box losses of the other positives above it) / rank``, and the negatives above it are pushed down by
    shares of that. The value of a negative is 0, so samplers that rank by the loss are refused. The box loss should be
    an IoU loss (the paper's is GIoU): its values are localization errors.

    Left out: the paper scales the box loss once an epoch by the ratio of the whole loss to it ("self-balancing",
    section 4.2). Here it is scaled to the value of this loss in every step, as the same authors do in Rank & Sort loss.

    Args:
        delta: half the width of the band in which two logits count as partly out of order, > 0.

    Raises:
        ValueError: ``delta`` not above 0.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    needs: frozenset[Need] = frozenset({Need.BOX_LOSSES})
    normalizer: ClassVar[Normalizer | None] = Normalizer.POSITIVES
    ranks_slots: ClassVar[bool] = False
    scales_boxes: ClassVar[bool] = True

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = limits.above("delta", delta, 0)

    def elementwise(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        quality: Tensor | None = None,
        box_loss: Tensor | None = None,
    ) -> Tensor:
        """``(*, S)``; ``box_loss (*, S)`` is the unweighted box loss of each positive slot, 0 without it."""
        batch = WholeBatch(target.shape)
        every = batch.gather(target, -1)
        if every.numel() == 0:
            return logits.sum(-1)
        box_loss = torch.zeros_like(logits[..., 0]) if box_loss is None else box_loss.detach()
        logits, box_loss = batch.gather(logits, 0), batch.gather(box_loss, 0)
        ranked = as_ranking(logits, every, batch.weight(weight, logits))
        values: Tensor = _ALRP.apply(*ranked, box_loss.flatten(), self.delta)
        return batch.own(values).view(target.shape)

    @torch.no_grad()
    def ranks(self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``: how many examples are at or above each positive, itself included; 1 in the other slots."""
        ranked = as_ranking(logits, target, weight)
        score, own = double_precision(ranked.logits), double_precision(ranked.own)
        false = RampSums(score, self.delta).above(ranked.negative.to(score.dtype), own)
        return (_others_above(own, ranked.positive.to(own.dtype), self.delta) + false + 1).view(target.shape)

    @torch.no_grad()
    def box_factor(self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)`` weight of each positive's box loss: the sum of ``1 / rank`` over the positives at or below it."""
        batch, shape = WholeBatch(target.shape), target.shape
        target = batch.gather(target, -1)
        if target.numel() == 0:
            return torch.zeros_like(logits[..., 0])
        logits, weight = batch.gather(logits, 0), batch.weight(weight, logits)
        ranked = as_ranking(logits, target, weight)
        share = (1 / self.ranks(logits, target, weight=weight)).flatten().where(ranked.positive, 0.0)
        # Of equal scores the first is the higher.
        order = double_precision(ranked.own).argsort(descending=True, stable=True)
        below = share[order].flip(0).cumsum(0).flip(0)
        factor = torch.zeros_like(below).scatter(0, order, below).where(ranked.positive, 0.0)
        return batch.own(factor).view(shape).to(logits.dtype)


def _others_above(own: Tensor, mass: Tensor, delta: float) -> Tensor:
    """``(..., T)``: the summed mass of the other slots above each slot, which itself would count by half."""
    return RampSums(own, delta).above(mass, own) - mass / 2


class _ALRP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        negative: Tensor,
        own: Tensor,
        positive: Tensor,
        place: Tensor,
        box_loss: Tensor,
        delta: float,
    ) -> Tensor:
        score, ours = double_precision(logits), double_precision(own)
        false = RampSums(score, delta).above(negative.to(score.dtype), ours)
        count = positive.to(ours.dtype)
        above, errors = _others_above(ours, torch.stack((count, count * double_precision(box_loss))), delta)
        rank = 1 + above + false
        pull = ((false + errors) / rank).where(positive & (false > EPS), 0.0)
        ctx.delta = delta
        ctx.save_for_backward(score, negative, ours, place, pull, (pull / false).where(false > EPS, 0.0))
        # 0, or NaN where the logit is not finite, which must not pass silently.
        silent = (ours - ours).where(positive, 0.0) + (score - score).where(negative, 0.0).sum()
        return ((false / rank).where(positive, 0.0) + silent).to(own.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        score, negative, ours, place, pull, share = ctx.saved_tensors
        upstream = double_precision(gradients[0])
        pushed = RampSums(ours, ctx.delta).below(share * upstream, score).where(negative, 0.0)
        update = pushed.index_add(0, place, -pull * upstream)
        return (update.to(gradients[0].dtype), *[None] * 6)
