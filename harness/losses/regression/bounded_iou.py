"""Upper bounds of the IoU, one per coordinate."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.core import limits
from harness.losses.interface import RegressionLoss, Space


class BoundedIoULoss(RegressionLoss):
    """Smooth L1 of ``1 - b`` for each of x, y, width and height, where ``b`` is the largest IoU that is possible with
    this number as predicted and the other three perfect (Tychsen-Smith and Petersson 2018, "Improving object
    localization with fitness NMS and bounded IoU loss", eq. 7 to 10).

    Args:
        beta: where the smooth L1 turns linear, > 0.
        eps: added to every denominator, px, > 0.

    Raises:
        ValueError: a parameter that is not above 0.
    """

    space: ClassVar[Space] = Space.BOXES
    published_weight: Mapping[str, float] = MappingProxyType({"roi": 10.0})

    def __init__(self, beta: float = 0.2, eps: float = 1e-3) -> None:
        super().__init__()
        self.beta = limits.above("beta", beta, 0)
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)``: x, y, width, height."""
        target = target.detach()
        sides, target_sides = prediction[..., 2:] - prediction[..., :2], target[..., 2:] - target[..., :2]
        shift = (
            target[..., :2] + target[..., 2:] - prediction[..., :2] - prediction[..., 2:]
        ).abs()  # twice the offset
        offset = 1 - ((target_sides - shift) / (target_sides + shift + self.eps)).clamp(min=0)
        size = 1 - torch.minimum(target_sides / (sides + self.eps), sides / (target_sides + self.eps))
        bounds = torch.cat((offset, size), -1)
        return F.smooth_l1_loss(bounds, torch.zeros_like(bounds), reduction="none", beta=self.beta)
