"""Wise-IoU: overlap weighted by the distance of the centers, with a dynamic focus on boxes of ordinary quality."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou, centers, enclosing_sides
from harness.core.processes import reduce_sum
from harness.losses.interface import RegressionLoss, Space


class WIoULoss(RegressionLoss):
    """Wise-IoU v1, v2 and v3 (Tong et al. 2023, "Wise-IoU", eq. 5 to 13).

    v1 is ``R (1 - IoU)`` with ``R = exp(squared distance of the centers / squared diagonal of the enclosing box)``; the
    diagonal carries no gradient. v2 and v3 multiply v1 by a factor without gradient of the outlier degree
    ``beta = (1 - IoU) / mean``, where ``mean`` is the running mean of ``1 - IoU``: v2 by ``beta^exponent``, v3 by
    ``beta / (delta alpha^(beta - delta))``, which is largest for boxes of ordinary quality.

    State: ``iou_mean``, updated in training mode before it is used, over the boxes of all processes whose weight is
    above 0. It is a buffer, so the checkpoint keeps it.

    Args:
        version: 1, 2 or 3.
        alpha: of v3, > 1: how fast the factor falls with ``beta``. The paper's 1.9 is the default (1.7 in its code).
        delta: of v3, > 0: the ``beta`` at which the factor is 1. The paper's 3 is the default (2.7 in its code).
        exponent: of v2, >= 0; the code's 0.5 is the default.
        momentum: share of a step's mean in the running mean, in (0, 1].
        eps: lower bound of the union and of the squared diagonal, px^2, > 0.

    Raises:
        ValueError: a parameter out of range.
    """

    space: ClassVar[Space] = Space.BOXES
    iou_mean: Tensor

    def __init__(
        self,
        version: int = 3,
        alpha: float = 1.9,
        delta: float = 3.0,
        exponent: float = 0.5,
        momentum: float = 0.01,
        eps: float = 1e-7,
    ) -> None:
        super().__init__()
        self.version = limits.require(version in (1, 2, 3), "version", version, "1, 2 or 3")
        self.alpha = limits.above("alpha", alpha, 1)
        self.delta = limits.above("delta", delta, 0)
        self.exponent = limits.at_least("exponent", exponent, 0)
        self.momentum = limits.above("momentum", momentum, 0, 1)
        self.eps = limits.above("eps", eps, 0)
        self.register_buffer("iou_mean", torch.ones(()), persistent=version > 1)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        gap = 1 - aligned_iou(prediction, target, self.eps)
        width, height = enclosing_sides(prediction.detach(), target)
        diagonal = (width.square() + height.square()).clamp(min=self.eps)
        distance = (centers(prediction) - centers(target)).square().sum(-1)
        loss = gap * torch.exp(distance / diagonal)
        if self.version == 1:
            return loss
        if self.training:
            self._update(gap.detach(), weight)
        return loss * self._focus(gap.detach())

    @torch.no_grad()
    def _update(self, gap: Tensor, weight: Tensor | None) -> None:
        exists = torch.ones_like(gap) if weight is None else (weight > 0).to(gap.dtype)
        total, count = reduce_sum(torch.stack(((gap * exists).sum(), exists.sum()))).unbind()
        mean = total / count.clamp(min=1)
        step = self.momentum * (count > 0)  # a step without a positive box leaves the mean as it is
        self.iou_mean.add_((step * (mean - self.iou_mean)).to(self.iou_mean.dtype))

    def _focus(self, gap: Tensor) -> Tensor:
        beta = gap / self.iou_mean.to(gap.dtype).clamp(min=torch.finfo(gap.dtype).eps)
        if self.version == 2:
            return beta.pow(self.exponent)
        return beta / (self.delta * torch.pow(self.alpha, beta - self.delta))
