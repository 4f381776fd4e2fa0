"""Softmax cross entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.core import limits
from harness.core.structures import Activation
from harness.losses.interface import ClassificationLoss


class CrossEntropyLoss(ClassificationLoss):
    """``-log p_t``, with ``p`` the softmax of the logits and ``t`` the target column (Fast R-CNN, Girshick 2015, eq.
    2).

    Args:
        class_weight: one factor per column of the logits, >= 0; ``None`` weighs all alike.
        ignore_index: a target whose slots have loss 0.
        label_smoothing: share of the target spread over all columns, in [0, 1].

    Raises:
        ValueError: a negative class weight or a smoothing outside [0, 1].
    """

    activation: ClassVar[Activation] = Activation.SOFTMAX
    class_weight: Tensor | None

    def __init__(
        self, class_weight: Sequence[float] | None = None, ignore_index: int = -100, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        weighs = class_weight is None or all(value >= 0 for value in class_weight)
        limits.require(weighs, "class_weight", class_weight, "numbers of at least 0, or null")
        weights = None if class_weight is None else torch.tensor([float(value) for value in class_weight])
        self.register_buffer("class_weight", weights, persistent=False)
        self.ignore_index = ignore_index
        self.label_smoothing = limits.between("label_smoothing", label_smoothing, 0, 1)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S)``."""
        loss = F.cross_entropy(
            logits.flatten(0, -2),
            target.flatten(),
            None if self.class_weight is None else self.class_weight.to(logits.dtype),
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return loss.view(target.shape)
