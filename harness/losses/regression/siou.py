"""SIoU: overlap, distance by direction, and shape."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou, enclosing_sides
from harness.losses.interface import RegressionLoss, Space


class SIoULoss(RegressionLoss):
    """1 - IoU + (distance cost + shape cost) / 2 (Gevorgyan 2022, "SIoU loss", eq. 1 to 8).

    The paper's angle cost ``sin(2 asin x)``, x the sine of the smaller angle to an axis, is ``2 x sqrt(1 - x^2)``: with
    the centers' offsets (u, v) it is ``2 |u v| / (u^2 + v^2)``, smooth where the arc sine is not.

    Args:
        neg_gamma: the paper's exponent ``(angle cost - 2) (offset / side)^2``, which makes distance cost. False is
            mmdetection's default, whose opposite sign makes distance pay.
        eps: lower bound of every denominator, px, > 0; keeps the direction of centers that coincide defined.

    Raises:
        ValueError: ``eps`` not above 0.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, neg_gamma: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        self.neg_gamma = neg_gamma
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        similarity = aligned_iou(prediction, target, self.eps)
        costs = self._distance(prediction, target) + self._shape(prediction, target)
        return (1 - similarity + 0.5 * costs).clamp(0, 2)

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        x = (target[..., 0] + target[..., 2] - prediction[..., 0] - prediction[..., 2]) / 2 + self.eps
        y = (target[..., 1] + target[..., 3] - prediction[..., 1] - prediction[..., 3]) / 2 + self.eps
        angle = 2 * (x * y).abs() / (x.square() + y.square()).clamp(min=self.eps**2)
        width, height = (side.clamp(min=self.eps) for side in enclosing_sides(prediction, target))
        steepness = angle - 2 if self.neg_gamma else 2 - angle
        return 2 - torch.exp(steepness * (x / width).square()) - torch.exp(steepness * (y / height).square())

    def _shape(self, prediction: Tensor, target: Tensor) -> Tensor:
        sides, target_sides = prediction[..., 2:] - prediction[..., :2], target[..., 2:] - target[..., :2]
        ratio = (sides - target_sides).abs() / torch.maximum(sides, target_sides).clamp(min=self.eps)
        return (1 - torch.exp(-ratio)).pow(4).sum(-1)
