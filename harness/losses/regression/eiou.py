"""Extended IoU as a loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import area
from harness.losses.interface import RegressionLoss, Space


class EIoULoss(RegressionLoss):
    """Smooth L1 of ``1 - extended IoU``, whose intersection is negative where the boxes do not touch (Peng and Yu 2021,
    "A systematic IoU-related method"; mmdetection's ``EIoULoss``). The "efficient IoU" of Zhang 2022 is
    :class:`~harness.losses.regression.FocalEIoULoss`.

    Coordinates are counted from the smallest near sides. The signed intersection is the product of the far sides that
    both boxes reach less the strips that only one of them covers; where the boxes overlap it is the intersection.

    Args:
        smooth_point: of 1 - IoU, below which the loss is quadratic, > 0.
        eps: lower bound of the union, > 0.

    Raises:
        ValueError: a parameter that is not above 0.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, smooth_point: float = 0.1, eps: float = 1e-6) -> None:
        super().__init__()
        self.smooth_point = limits.above("smooth_point", smooth_point, 0)
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        intersection = _signed_intersection(prediction, target)
        union = (area(prediction) + area(target) - intersection).clamp(min=self.eps)
        gap = 1 - intersection / union
        quadratic = 0.5 * gap.square() / self.smooth_point
        return torch.where(gap < self.smooth_point, quadratic, gap - 0.5 * self.smooth_point)


def _signed_intersection(first: Tensor, second: Tensor) -> Tensor:
    """``(*,)``, px^2."""
    origin = torch.minimum(first[..., :2], second[..., :2])
    near = torch.maximum(first[..., :2], second[..., :2])  # of the overlap, if there is one
    far = torch.minimum(first[..., 2:], second[..., 2:])
    low, high = torch.minimum(near, far) - origin, torch.maximum(near, far) - origin
    near, far = near - origin, far - origin
    return (
        far[..., 0] * far[..., 1]
        + low[..., 0] * low[..., 1]
        - near[..., 0] * high[..., 1]
        - high[..., 0] * near[..., 1]
    )
