"""Sigmoid cross entropy, one yes or no per column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation, Need
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.interface import ClassificationLoss


class BinaryCrossEntropyLoss(ClassificationLoss):
    """``-q log p - (1 - q) log(1 - p)`` in the column that is on and ``-log(1 - p)`` in all others, ``p`` being the
    sigmoid of the logit (Faster R-CNN's RPN, YOLO). ``q`` is 1, or with ``soft`` the quality of the positive.

    Args:
        soft: the target of the column that is on is the positive's quality instead of 1 (YOLOX, section 2.1).
        class_weight: factor of the positive term of each column, >= 0; ``None`` weighs all alike.
        column_weight: factor of both terms of each column, >= 0 (Ultralytics); ``None`` weighs all alike.
        smoothing: share of a target that is spread over the columns, in [0, 1): ``1 - s + s / C`` and ``s / C`` instead
            of 1 and 0 (YOLOv3 in mmdetection).
        ignore_index: a target whose slots have loss 0; ``None`` ignores nothing.

    Raises:
        ValueError: a negative class weight.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    class_weight: Tensor | None
    column_weight: Tensor | None

    def __init__(
        self,
        soft: bool = False,
        class_weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        column_weight: Sequence[float] | None = None,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        for name, factors in (("class_weight", class_weight), ("column_weight", column_weight)):
            weighs = factors is None or all(value >= 0 for value in factors)
            limits.require(weighs, name, factors, "numbers of at least 0, or null")
            weights = None if factors is None else torch.tensor([float(value) for value in factors])
            self.register_buffer(name, weights, persistent=False)
        self.soft = soft
        self.smoothing = limits.require(0 <= smoothing < 1, "smoothing", smoothing, "at least 0 and below 1")
        self.needs = frozenset({Need.QUALITY}) if soft else frozenset()
        self.ignore_index = ignore_index

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``."""
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        positive, negative = off_entropy(-logit), off_entropy(logit)
        if self.class_weight is not None:
            positive = positive * self.class_weight.to(logits.dtype)[index]
        if self.soft and quality is not None:
            share = quality.unsqueeze(-1).to(logits.dtype)
            positive = share * positive + (1 - share) * negative
        loss = replace_column(off_entropy(logits), index, torch.where(on, positive, negative))
        if self.smoothing > 0:
            spread = off_entropy(logits) - logits / logits.shape[-1]  # towards 1 / C in every column
            loss = (1 - self.smoothing) * loss + self.smoothing * spread
        if self.column_weight is not None:
            loss = loss * self.column_weight.to(logits.dtype)
        if self.ignore_index is None:
            return loss
        return loss.masked_fill((target == self.ignore_index).unsqueeze(-1), 0.0)
