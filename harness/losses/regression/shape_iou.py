"""Shape-IoU: distance and shape costs weighted by the shape of the object."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou, centers, enclosing_sides
from harness.losses.interface import RegressionLoss, Space


class ShapeIoULoss(RegressionLoss):
    """``1 - IoU + distance cost + shape cost / 2`` (Zhang and Zhang 2023, "Shape-IoU", eq. 5 to 12).

    With the object's sides ``w`` and ``h``: ``ww = 2 w^s / (w^s + h^s)`` and ``hh = 2 h^s / (w^s + h^s)``. The distance
    cost is ``(hh dx^2 + ww dy^2)`` over the squared diagonal of the enclosing box; the shape cost is the sum over the
    sides of ``(1 - exp(-omega))^4``, where ``omega`` is the relative difference of the widths times ``hh``, of the
    heights times ``ww``.

    Args:
        scale: ``s``, >= 0, chosen by the sizes of the objects of a data set; 0 weighs both directions alike.
        eps: lower bound of every denominator, px or px^2, > 0.

    Raises:
        ValueError: a parameter out of range.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, scale: float = 0.0, eps: float = 1e-7) -> None:
        super().__init__()
        self.scale = limits.at_least("scale", scale, 0)
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        sides, target_sides = prediction[..., 2:] - prediction[..., :2], target[..., 2:] - target[..., :2]
        powers = target_sides.clamp(min=self.eps).pow(self.scale)
        across = (2 * powers / powers.sum(-1, keepdim=True)).flip(-1)  # (hh, ww): each direction by the other side

        width, height = enclosing_sides(prediction, target)
        diagonal = (width.square() + height.square()).clamp(min=self.eps)
        distance = (across * (centers(prediction) - centers(target)).square()).sum(-1) / diagonal

        larger = torch.maximum(sides, target_sides).clamp(min=self.eps)
        shape = (1 - torch.exp(-across * (sides - target_sides).abs() / larger)).pow(4).sum(-1)
        return 1 - aligned_iou(prediction, target, self.eps) + distance + shape / 2
