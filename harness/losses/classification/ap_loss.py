"""Average-precision loss: ranks positives above negatives."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.precision import double_precision
from harness.core.structures import Activation
from harness.losses.columns import target_column
from harness.losses.interface import ClassificationLoss, Normalizer
from harness.losses.whole_batch import WholeBatch


class APLoss(ClassificationLoss):
    """One minus the average precision of the ranking of all logits, with an error-driven gradient (Chen 2019, "Towards
    accurate one-stage object detection with AP-loss", eq. 4 to 8 and algorithm 1).

    All columns of all slots of the batch are ranked together; the columns that are on are the positives. The value of a
    positive is one minus the interpolated precision at its score, the value of a negative 0. The loss has a normalizer
    of its own, the positives: the sum over it is 1 - AP.

    The gradient is the paper's update, not the derivative of the value, which is flat almost everywhere: a positive is
    pulled up by its value, and every negative above it is pushed down by its share of that value. As the value of a
    negative is 0 however hard it is, samplers that rank by the loss are refused.

    Args:
        delta: half the width of the band in which two logits count as partly out of order, > 0.

    Raises:
        ValueError: ``delta`` not above 0.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    normalizer: ClassVar[Normalizer | None] = Normalizer.POSITIVES
    ranks_slots: ClassVar[bool] = False

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = limits.above("delta", delta, 0)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``. A slot of weight 0 takes no part in the ranking."""
        batch = WholeBatch(target.shape)
        logits, target = batch.gather(logits, 0), batch.gather(target, -1)
        weight = batch.weight(weight, logits)
        index, on = target_column(logits, target)
        positive = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, on)
        negative = ~positive
        if weight is not None:
            exists = (weight > 0).unsqueeze(-1)
            positive, negative = positive & exists, negative & exists
        loss: Tensor = _AveragePrecision.apply(logits, positive, negative, self.delta)
        return batch.own(loss)


class _AveragePrecision(torch.autograd.Function):
    """All ranks at once by sorting: O(M log M) for M logits, where the published loop takes O(M) for every positive.

    "How far is j above i" is linear within the band and constant outside, so its sum over all j is a difference of
    prefix sums over the sorted logits; so is, for a negative, the sum over the positives. Prefix sums need float64.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, positive: Tensor, negative: Tensor, delta: float) -> Tensor:
        if logits.numel() == 0:
            return torch.zeros_like(logits)
        score, order = double_precision(logits.flatten()).sort()
        is_positive, is_negative = (double_precision(kind.flatten()[order]) for kind in (positive, negative))
        low, high = torch.searchsorted(score, score - delta), torch.searchsorted(score, score + delta)

        above_positives = _sum_above(score, is_positive, low, high, delta) + 0.5
        rank = above_positives + _sum_above(score, is_negative, low, high, delta)
        precision = above_positives / rank * is_positive
        interpolated = precision.cummax(0).values
        # A negative's share is scaled down where a lower positive has the better precision and speaks for this one.
        scale = ((1 - interpolated) / (1 - precision)).where(interpolated > precision, 1.0)
        error = (1 - interpolated) * is_positive
        ctx.delta = delta
        ctx.save_for_backward(score, order, low, high, is_positive * scale / rank, error, is_negative)
        # The difference is 0, or NaN where the logit is not finite, which then must not pass silently.
        return torch.zeros_like(score).scatter(0, order, error + (score - score)).view(logits.shape).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0]
        if gradient.numel() == 0:
            return gradient, None, None, None
        score, order, low, high, share, error, is_negative = ctx.saved_tensors
        factor = gradient.flatten()[order].to(score.dtype)
        pushed = _sum_below(score, share * factor, low, high, ctx.delta) * is_negative
        update = pushed - error * factor
        return (
            torch.zeros_like(score).scatter(0, order, update).view(gradient.shape).to(gradient.dtype),
            None,
            None,
            None,
        )


def _sum_above(score: Tensor, mass: Tensor, low: Tensor, high: Tensor, delta: float) -> Tensor:
    """For each logit ``s_i`` the sum over ``j`` of ``mass_j clamp((s_j - s_i) / (2 delta) + 1/2, 0, 1)``."""
    count, moment = _prefix(mass), _prefix(mass * score)
    inside = count[high] - count[low]
    band = (moment[high] - moment[low] - score * inside) / (2 * delta) + inside / 2
    return count[-1] - count[high] + band


def _sum_below(score: Tensor, mass: Tensor, low: Tensor, high: Tensor, delta: float) -> Tensor:
    """For each logit ``s_j`` the sum over ``i`` of ``mass_i clamp((s_j - s_i) / (2 delta) + 1/2, 0, 1)``."""
    count, moment = _prefix(mass), _prefix(mass * score)
    inside = count[high] - count[low]
    band = (score * inside - moment[high] + moment[low]) / (2 * delta) + inside / 2
    return count[low] + band


def _prefix(values: Tensor) -> Tensor:
    """Sums of the first 0, 1, ..., M values."""
    return torch.cat((values.new_zeros(1), values.cumsum(0)))
