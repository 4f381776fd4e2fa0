"""Focal loss on a softmax, for heads with a background column."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.core import limits
from harness.core.structures import Activation
from harness.losses.interface import ClassificationLoss


class SoftmaxFocalLoss(ClassificationLoss):
    """``-alpha_t (1 - p_t)^gamma log p_t``, with ``p`` the softmax of the logits and ``t`` the target column (Lin 2017,
    section 3, the softmax form that the paper mentions), for RoI and SSD heads.

    One softmax covers all columns, so a slot has one term, and ``alpha_t`` balances objects against the background
    column: ``alpha`` with an object, ``1 - alpha`` without.

    Args:
        alpha: weight of a slot with an object, in [0, 1]; the background has ``1 - alpha``. -1 weighs none.
        gamma: focusing exponent, >= 0; 0 is the cross entropy.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SOFTMAX
    background_last = True

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        balances = alpha == -1 or 0 <= alpha <= 1
        self.alpha = limits.require(balances, "alpha", alpha, "between 0 and 1, or -1 for no balance")
        self.gamma = limits.at_least("gamma", gamma, 0)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S)``."""
        log_p = -F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)
        # The bound keeps the power's gradient finite at p = 1 for gamma < 1, where log p = 0 makes the term vanish.
        loss = -(-torch.expm1(log_p)).clamp(min=torch.finfo(logits.dtype).eps).pow(self.gamma) * log_p
        if self.alpha == -1:
            return loss
        return loss * torch.where(target == logits.shape[-1] - 1, 1 - self.alpha, self.alpha)
