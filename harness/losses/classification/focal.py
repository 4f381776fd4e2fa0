"""Focal loss on sigmoids, with its gradient in closed form."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.interface import ClassificationLoss


class FocalLoss(ClassificationLoss):
    """``-alpha_t (1 - p_t)^gamma log p_t`` in every column (Lin 2017, eq. 5); RetinaNet's and FCOS's.

    Args:
        alpha: weight of the column that is on, in [0, 1]; the others have ``1 - alpha``. -1 weighs none
            (torchvision's convention).
        gamma: focusing exponent, >= 0; 0 is the cross entropy.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        balances = alpha == -1 or 0 <= alpha <= 1
        self.alpha = limits.require(balances, "alpha", alpha, "between 0 and 1, or -1 for no balance")
        self.gamma = limits.at_least("gamma", gamma, 0)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``."""
        balance = (self.alpha, 1 - self.alpha) if self.alpha != -1 else (1.0, 1.0)
        if torch.is_grad_enabled() and logits.requires_grad:
            loss: Tensor = _SigmoidFocal.apply(logits, target, *balance, self.gamma)
            return loss
        return _focal(logits, target, *balance, self.gamma, with_slope=False)[0]


class _SigmoidFocal(torch.autograd.Function):
    """The value and, in the same pass, its derivative: autograd would keep and read five tensors of this size."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, positive: float, negative: float, gamma: float) -> Tensor:
        loss, slope = _focal(logits, target, positive, negative, gamma, with_slope=True)
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None, None, None


def _focal(
    logits: Tensor, target: Tensor, positive: float, negative: float, gamma: float, with_slope: bool
) -> tuple[Tensor, Tensor | None]:
    """``(*, S, C)`` losses and, where asked for, their derivatives by the logits."""
    index, on = target_column(logits, target)
    logit = logits.gather(-1, index)
    loss, slope = _off(logits, negative, gamma, with_slope)
    loss_on, slope_on = _off(-logit, positive, gamma, with_slope)  # on is off of the negated logit
    loss = replace_column(loss, index, torch.where(on, loss_on, loss.gather(-1, index)))
    if slope is not None and slope_on is not None:
        slope = replace_column(slope, index, torch.where(on, -slope_on, slope.gather(-1, index)))
    return loss, slope


def _off(logits: Tensor, alpha: float, gamma: float, with_slope: bool) -> tuple[Tensor, Tensor | None]:
    """Loss of columns that are off, ``l = -a p^g log(1 - p)``, and ``dl/dx = a p^g (p - g (1 - p) log(1 - p))``."""
    p, entropy = logits.sigmoid(), off_entropy(logits)
    scale = p.pow(gamma).mul_(alpha)
    slope = torch.sub(1, p).mul_(entropy).mul_(gamma).add_(p).mul_(scale) if with_slope else None
    return entropy.mul_(scale), slope
