"""What the criterion asks of a loss.

A loss returns one value per slot, so that any sampler works with any loss. The criterion sums the values and divides by
a normalizer: the stage's, unless the loss declares one of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor, nn

from harness.core.precision import full_precision
from harness.core.structures import Activation, ClassCounts, Need
from harness.losses.reduction import Normalizer as Normalizer


class ClassificationLoss(nn.Module):
    """The loss of a head's logits.

    ``target`` is a column of the logits; with sigmoid the value ``C`` (one past the last) means that no column is on.
    A subclass writes :meth:`elementwise`. State (GHM, EQLv2, seesaw) lives in buffers and changes in training mode
    only, as BatchNorm's does: hard example mining ranks with the loss in evaluation mode. What is kept for each class
    is allocated by :meth:`prepare`. Computed in float32 at least, whatever the logits are.
    """

    activation: ClassVar[Activation]
    needs: frozenset[Need] = frozenset()
    normalizer: ClassVar[Normalizer | None] = None  # the method's own, in the place of the stage's
    ranks_slots: ClassVar[bool] = True  # whether a harder slot has a larger value: what hard example mining relies on
    scales_boxes: ClassVar[bool] = False  # in each step the box term is scaled to the value of this one
    background_last: bool = False  # the loss tells the background column apart: it must be the last one
    published_weight: Mapping[str, float] = MappingProxyType({})  # stage (rpn, roi, dense): weight where published
    extra_columns: int = 0  # logits that the loss wants beyond one per class and the background's

    def prepare(self, columns: int) -> None:
        """Called by the criterion, once, before the first step and before a checkpoint is loaded.

        Args:
            columns: of the logits that the loss will see.

        Raises:
            ValueError: the loss is already prepared for another number of columns.
        """

    def set_class_counts(self, counts: ClassCounts) -> None:
        """Called before the first step, where ``Need.CLASS_COUNTS`` is among the needs.

        Args:
            counts: of the training set, one entry for each column of the logits in the loss's own order.
        """

    def box_factor(self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor | None:
        """``(*, S)`` weight, without gradient, that this loss gives to the box loss of each positive; ``None``: 1."""
        return None

    def activation_of(self, logits: Tensor) -> Tensor:
        """``(*, C)`` probabilities at inference, of logits in the loss's own column order."""
        return logits.softmax(-1) if self.activation is Activation.SOFTMAX else logits.sigmoid()

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
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        quality: Tensor | None = None,
        box_loss: Tensor | None = None,
    ) -> Tensor:
        """``(*, S)`` loss of each slot, multiplied by its weight; exactly 0 where the weight is 0.

        Args:
            logits: ``(*, S, C)``.
            target: ``(*, S)`` int64, 0..C.
            weight: ``(*, S)``.
            quality: ``(*, S)``, where the loss needs it.
            box_loss: ``(*, S)`` unweighted box loss of each positive, where the loss needs it.

        Raises:
            ValueError: the loss needs the quality or the box loss of the positives and none is given.
        """
        if quality is None and Need.QUALITY in self.needs:
            raise ValueError(f"{type(self).__name__} needs quality, a soft target for each positive; none was given")
        inputs = {}
        if Need.BOX_LOSSES in self.needs:
            if box_loss is None:
                raise ValueError(f"{type(self).__name__} needs box_loss, the box loss of each positive; none was given")
            inputs["box_loss"] = full_precision(box_loss.detach())
        loss = self.elementwise(full_precision(logits), target, weight=weight, quality=quality, **inputs)
        loss = loss.sum(-1) if loss.dim() > target.dim() else loss
        return loss if weight is None else (loss * weight).masked_fill(weight == 0, 0.0)


class Space(StrEnum):
    """What a regression loss compares."""

    DELTAS = "deltas"  # the head's four numbers with the encoded object
    BOXES = "boxes"  # the decoded box with the object, px
    DISTRIBUTION = "distribution"  # a distribution over bins per side with the encoded distance


class RegressionLoss(nn.Module):
    """The loss of a head's boxes, on the positives. A subclass writes :meth:`elementwise`.

    Computed in float32 at least: a box in bfloat16 is exact to a pixel or two only. A loss that needs the size of the
    image (``Need.IMAGE_SIZE`` among its needs) gets it as ``image_size`` in :meth:`elementwise`.
    """

    space: ClassVar[Space]
    needs: frozenset[Need] = frozenset()
    published_weight: Mapping[str, float] = MappingProxyType({})  # stage (rpn, roi, dense): weight where published
    normalizer: ClassVar[Normalizer | None] = None  # the method's own, in the place of the stage's

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)`` or ``(*, S)`` values before the slot weights, of ``(*, S, 4)`` predictions and targets."""
        raise TypeError(f"{type(self).__name__} does not define elementwise()")

    def forward(
        self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None, image_size: Tensor | None = None
    ) -> Tensor:
        """``(*, S)`` loss of each slot, multiplied by its weight; exactly 0 where the weight is 0.

        Args:
            prediction: ``(*, S, 4)``, or with bins where the space is a distribution.
            target: ``(*, S, 4)``.
            weight: ``(*, S)``.
            image_size: ``(*, S, 2)`` height and width of each slot's image, px, where the loss needs it.

        Raises:
            ValueError: the loss needs the size of the image and none is given.
        """
        inputs = {}
        if Need.IMAGE_SIZE in self.needs:
            if image_size is None:
                raise ValueError(f"{type(self).__name__} needs image_size, the (height, width) of each slot's image")
            inputs["image_size"] = full_precision(image_size)
        loss = self.elementwise(full_precision(prediction), full_precision(target), weight=weight, **inputs)
        loss = loss.sum(-1) if loss.dim() == target.dim() else loss
        return loss if weight is None else (loss * weight).masked_fill(weight == 0, 0.0)
