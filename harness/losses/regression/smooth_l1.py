"""Absolute difference, quadratic near 0."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from harness.core import limits
from harness.losses.interface import RegressionLoss, Space


class SmoothL1Loss(RegressionLoss):
    """``x^2 / (2 beta)`` where ``|x| < beta`` and ``|x| - beta / 2`` elsewhere, with ``x`` the difference of each delta
    (Fast R-CNN, Girshick 2015, eq. 3; there with ``beta = 1``).

    Args:
        beta: where the two meet, >= 0; 0 is the L1 loss. torchvision: 1/9 in RPN and RoI heads, 1 in SSD.

    Raises:
        ValueError: ``beta`` below 0.
    """

    space: ClassVar[Space] = Space.DELTAS

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = limits.at_least("beta", beta, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)``."""
        return F.smooth_l1_loss(prediction, target, reduction="none", beta=self.beta)
