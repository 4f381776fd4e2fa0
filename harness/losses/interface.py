"""What the criterion asks of a loss.

Every loss is unreduced until the end: one value a slot, so that any sampler works with any loss. The criterion sums
them and divides by one normaliser.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from torch import Tensor, nn

from harness.types import Activation, Need


class ClassificationLoss(nn.Module):
    """The loss of a head's logits.

    ``target`` is a column of the logits; with sigmoid the value ``C`` (one past the last) means that no column is on.
    A subclass writes :meth:`elementwise`. State (GHM, EQLv2, seesaw) lives in buffers and changes in training mode
    only, as BatchNorm's does: hard example mining ranks with the loss in evaluation mode.
    """

    activation: ClassVar[Activation]
    needs: ClassVar[frozenset[Need]] = frozenset()
    background_last: ClassVar[bool] = False  # the loss tells the background column apart: it must be the last one

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)`` or ``(*, S)`` values before the slot weights.

        Args:
            logits: ``(*, S, C)``.
            target: ``(*, S)`` int64, 0..C.
            weight: ``(*, S)``; a slot of weight 0 does not exist for losses that look at the whole set.
            quality: ``(*, S)`` soft target of the positives in [0, 1], where ``Need.QUALITY`` is among the needs.
        """
        raise TypeError(f"{type(self).__name__} does not define elementwise()")

    def forward(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S)`` loss of each slot, multiplied by its weight; exactly 0 where the weight is 0."""
        loss = self.elementwise(logits, target, weight=weight, quality=quality)
        loss = loss.sum(-1) if loss.dim() > target.dim() else loss
        return loss if weight is None else (loss * weight).masked_fill(weight == 0, 0.0)


class Space(StrEnum):
    """What a regression loss compares."""

    DELTAS = "deltas"  # the head's four numbers with the encoded object
    BOXES = "boxes"  # the decoded box with the object, px
    DISTRIBUTION = "distribution"  # a distribution over bins a side with the encoded distance


class RegressionLoss(nn.Module):
    """The loss of a head's boxes, on the positives. A subclass writes :meth:`elementwise`."""

    space: ClassVar[Space]

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)`` or ``(*, S)`` values before the slot weights, of ``(*, S, 4)`` predictions and targets."""
        raise TypeError(f"{type(self).__name__} does not define elementwise()")

    def forward(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)`` loss of each slot, multiplied by its weight; exactly 0 where the weight is 0."""
        loss = self.elementwise(prediction, target, weight=weight)
        loss = loss.sum(-1) if loss.dim() == target.dim() else loss
        return loss if weight is None else (loss * weight).masked_fill(weight == 0, 0.0)
