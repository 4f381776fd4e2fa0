"""Asymmetric focal loss towards a soft target."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation, Need
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.interface import ClassificationLoss


class VarifocalLoss(ClassificationLoss):
    """Varifocal loss (VarifocalNet, Zhang 2021, eq. 2).

    ``-q (q log p + (1 - q) log(1 - p))`` in the column of a positive of quality ``q``, and
    ``-alpha p^gamma log(1 - p)`` in all other columns. A positive of quality 0 counts as one of these, as in the
    paper.

    Args:
        alpha: weight of the columns that are off, >= 0.
        gamma: focusing exponent of the columns that are off, 0 or at least 1.
        iou_weighted: weigh a positive by its quality; by 1 where false.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    needs: frozenset[Need] = frozenset({Need.QUALITY})

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0, iou_weighted: bool = True) -> None:
        super().__init__()
        self.alpha = limits.at_least("alpha", alpha, 0)
        self.gamma = limits.require(gamma == 0 or gamma >= 1, "gamma", gamma, "0 or at least 1")
        self.iou_weighted = iou_weighted

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``."""
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        share = torch.zeros_like(logit) if quality is None else quality.unsqueeze(-1).to(logits.dtype) * on
        positive = share * off_entropy(-logit) + (1 - share) * off_entropy(logit)
        if self.iou_weighted:
            positive = positive * share
        return replace_column(self._off(logits), index, torch.where(share > 0, positive, self._off(logit)))

    def _off(self, logits: Tensor) -> Tensor:
        return self.alpha * logits.sigmoid().pow(self.gamma) * off_entropy(logits)
