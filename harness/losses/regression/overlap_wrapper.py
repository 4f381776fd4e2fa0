"""What Inner-IoU and Focaler-IoU share: any IoU loss, with its IoU replaced by another measure of overlap."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from harness.core import limits
from harness.losses.interface import RegressionLoss, Space
from harness.losses.regression.iou import IoULoss


class OverlapWrapper(RegressionLoss):
    """``base - (other overlap - IoU)``; a subclass writes :meth:`overlap_gain`.

    Args:
        base: a loss of decoded boxes; ``None`` is ``1 - IoU``.
        eps: lower bound of the unions, px^2, > 0.

    Raises:
        ValueError: ``eps`` not above 0, or ``base`` is no loss of decoded boxes.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, base: RegressionLoss | None, eps: float) -> None:
        super().__init__()
        self.eps = limits.above("eps", eps, 0)
        self.base = IoULoss("linear", eps) if base is None else base
        boxes = self.base.space is Space.BOXES
        limits.require(boxes, "base", type(self.base).__name__, "a loss of decoded boxes (IoULoss, GIoULoss, ...)")
        self.needs = self.base.needs
        self.published_weight = dict(self.base.published_weight)

    def overlap_gain(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``(*, S)``: the other measure of overlap less the IoU."""
        raise TypeError(f"{type(self).__name__} does not define overlap_gain()")

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None, **inputs: Any) -> Tensor:
        """``(*, S)``; ``inputs`` are what the base needs."""
        base = self.base.elementwise(prediction, target, weight=weight, **inputs)
        return base - self.overlap_gain(prediction, target)
