"""Distance IoU as a loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_diou
from harness.losses.interface import RegressionLoss, Space


class DIoULoss(RegressionLoss):
    """``1 - IoU + d^2 / c^2`` (Zheng 2020, eq. 7): ``d`` is the distance of the centers, ``c`` the diagonal of the
    enclosing box.

    torchvision's ``distance_box_iou_loss`` differs only in how it avoids 0 / 0.

    Args:
        eps: lower bound of every denominator, > 0.

    Raises:
        ValueError: ``eps`` not above 0.
    """

    space: ClassVar[Space] = Space.BOXES
    published_weight: Mapping[str, float] = MappingProxyType({"roi": 12.0})

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        return 1 - aligned_diou(prediction, target, self.eps)
