"""Focal loss on sigmoids, with its gradient in closed form."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.losses.columns import replace_column, target_column
from harness.losses.interface import ClassificationLoss
from harness.types import Activation


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
        if not (0 <= alpha <= 1 or alpha == -1):
            raise ValueError(f"FocalLoss: alpha={alpha} must lie in [0, 1], or be -1 for no balance")
        if not gamma >= 0:
            raise ValueError(f"FocalLoss: gamma={gamma} must be at least 0")
        self.alpha = alpha
        self.gamma = gamma

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``."""
        positive, negative = (self.alpha, 1 - self.alpha) if self.alpha != -1 else (1.0, 1.0)
        loss: Tensor = _SigmoidFocal.apply(logits, target, positive, negative, self.gamma)
        return loss


class _SigmoidFocal(torch.autograd.Function):
    """The value and, in the same pass, its derivative: autograd would keep and read five tensors of this size.

    With ``q = 1 - p_t`` and ``z`` the logit of the true side, the loss is ``-a q^g log(1 - q)`` and its derivative by
    ``z`` is ``-a q^g (q - g (1 - q) log(1 - q))``; by the logit of a column that is off, the opposite.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, positive: float, negative: float, gamma: float) -> Tensor:
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        loss, slope = _one_side(logits, negative, gamma)
        loss_on, slope_on = _one_side(-logit, positive, gamma)
        loss_off, slope_off = loss.gather(-1, index), slope.gather(-1, index)
        ctx.save_for_backward(replace_column(slope, index, torch.where(on, -slope_on, slope_off)))
        return replace_column(loss, index, torch.where(on, loss_on, loss_off))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None, None, None


def _one_side(wrong: Tensor, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Loss and derivative as functions of the logit of the wrong side, ``-z``."""
    q = wrong.sigmoid()
    log_right = F.logsigmoid(-wrong)
    scale = q.pow(gamma).mul_(alpha)
    slope = q.sub(1).mul_(log_right).mul_(gamma).add_(q).mul_(scale)
    return log_right.mul_(scale).neg_(), slope
