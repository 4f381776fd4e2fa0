"""Intersection over union as a loss."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou
from harness.losses.interface import RegressionLoss, Space


class IoULoss(RegressionLoss):
    """A decreasing function of the IoU (UnitBox, Yu 2016, algorithm 1). No gradient where the boxes do not touch.

    Args:
        mode: ``log`` is -ln IoU (the paper's), ``linear`` 1 - IoU, ``square`` 1 - IoU^2 (YOLOX's).
        eps: lower bound of the IoU and of the union, > 0.

    Raises:
        ValueError: an unknown mode, or ``eps`` not above 0.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, mode: str = "log", eps: float = 1e-6) -> None:
        super().__init__()
        self.mode = limits.one_of("mode", mode, ("log", "linear", "square"))
        self.eps = limits.above("eps", eps, 0)
        self.published_weight = {"dense": 5.0} if mode == "square" else {"roi": 10.0}

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        iou = aligned_iou(prediction, target, self.eps).clamp(min=self.eps)
        if self.mode == "log":
            return -iou.log()
        return 1 - iou if self.mode == "linear" else 1 - iou.square()
