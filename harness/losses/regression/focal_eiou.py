"""Focal-EIoU: overlap, distance and side lengths, weighted by the overlap."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou, centers, enclosing_sides
from harness.losses.interface import RegressionLoss, Space


class FocalEIoULoss(RegressionLoss):
    """``IoU^gamma (1 - IoU + distance + width + height cost)`` (Zhang et al. 2022, "Focal and efficient IoU loss",
    eq. 6 to 9).

    The distance cost is the squared distance of the centers over the squared diagonal of the enclosing box; the width
    (height) cost is the squared difference of the widths (heights) over the squared width (height) of the enclosing
    box. The focal factor carries no gradient; it is 0 for boxes that do not touch, which therefore learn nothing.

    Left out: the paper divides by the sum of the focal factors over the batch; here the stage's normalizer counts
    boxes. :class:`~harness.losses.regression.EIoULoss` is another EIoU (Peng and Yu 2021).

    Args:
        gamma: of the focal factor, >= 0; 0 is the plain EIoU loss.
        eps: lower bound of every denominator, px or px^2, > 0.

    Raises:
        ValueError: a parameter out of range.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, gamma: float = 0.5, eps: float = 1e-7) -> None:
        super().__init__()
        self.gamma = limits.at_least("gamma", gamma, 0)
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        iou = aligned_iou(prediction, target, self.eps)
        enclosure = torch.stack(enclosing_sides(prediction, target), -1).square()
        distance = (centers(prediction) - centers(target)).square().sum(-1)
        sides, target_sides = prediction[..., 2:] - prediction[..., :2], target[..., 2:] - target[..., :2]
        shape = ((sides - target_sides).square() / enclosure.clamp(min=self.eps)).sum(-1)
        loss = 1 - iou + distance / enclosure.sum(-1).clamp(min=self.eps) + shape
        return loss * iou.detach().pow(self.gamma)
