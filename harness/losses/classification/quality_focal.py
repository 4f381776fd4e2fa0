"""Focal loss towards a soft target."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation, Need
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.interface import ClassificationLoss


class QualityFocalLoss(ClassificationLoss):
    """Quality focal loss, ``-|q - p|^beta ((1 - q) log(1 - p) + q log p)`` (Generalized Focal Loss, Li 2020, eq. 5).

    ``q`` is the quality of the positive in its column and 0 in all other columns.

    Args:
        beta: focusing exponent, 0 or at least 1 (between them its gradient has no bound).

    Raises:
        ValueError: ``beta`` out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    needs: frozenset[Need] = frozenset({Need.QUALITY})

    def __init__(self, beta: float = 2.0) -> None:
        super().__init__()
        self.beta = limits.require(beta == 0 or beta >= 1, "beta", beta, "0 or at least 1")

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``."""
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        # Nothing is on where the quality is 0, so one formula serves both.
        share = torch.zeros_like(logit) if quality is None else quality.unsqueeze(-1).to(logits.dtype) * on
        entropy = share * off_entropy(-logit) + (1 - share) * off_entropy(logit)
        positive = (share - logit.sigmoid()).abs().pow(self.beta) * entropy
        return replace_column(logits.sigmoid().pow(self.beta) * off_entropy(logits), index, positive)
