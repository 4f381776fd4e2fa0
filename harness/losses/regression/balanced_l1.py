"""Smooth L1 with more gradient from accurate samples."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.losses.interface import RegressionLoss, Space


class BalancedL1Loss(RegressionLoss):
    """With ``x`` the absolute difference of each delta: ``a / b (b x + 1) ln(b x / beta + 1) - a x`` below ``beta`` and
    ``gamma x + C`` above, where ``a ln(b + 1) = gamma`` makes the slopes and ``C`` the values meet (Libra R-CNN, Pang
    2019, eq. 7 to 10). Accurate samples get more gradient than under smooth L1.

    Args:
        alpha: of the gradient of accurate samples (inliers), > 0; less means more.
        gamma: the greatest gradient, that of the inaccurate samples, > 0.
        beta: where inliers end, > 0.

    Raises:
        ValueError: a parameter that is not above 0.
    """

    space: ClassVar[Space] = Space.DELTAS

    def __init__(self, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0) -> None:
        super().__init__()
        self.alpha = limits.above("alpha", alpha, 0)
        self.gamma = limits.above("gamma", gamma, 0)
        self.beta = limits.above("beta", beta, 0)
        self.b = math.expm1(gamma / alpha)  # makes the two gradients meet: alpha log(b + 1) = gamma

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)``."""
        difference = (prediction - target).abs()
        inlier = difference.clamp(max=self.beta)  # bounded, so that the branch not taken cannot overflow
        near = self.alpha / self.b * (self.b * inlier + 1) * torch.log(self.b * inlier / self.beta + 1)
        near = near - self.alpha * inlier
        far = self.gamma * difference + self.gamma / self.b - self.alpha * self.beta
        return torch.where(difference < self.beta, near, far)
