"""YOLOv3's two losses of a box: where its center lies in the cell, and how its sides compare to the anchor's."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.coders import YOLOv3Coder
from harness.losses.interface import RegressionLoss, Space


class CellOffsetLoss(RegressionLoss):
    """Binary cross entropy of the center's place in its cell (YOLOv3, Redmon 2018, section 2.1, in mmdetection's form:
    the paper squares the difference of the coordinates)."""

    space: ClassVar[Space] = Space.DELTAS
    coder: ClassVar[type] = YOLOv3Coder

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)`` of logits and places in [0, 1], the first two columns of each."""
        place = target[..., :2].clamp(1e-6, 1 - 1e-6)
        return binary_cross_entropy_with_logits(prediction[..., :2], place, reduction="none").sum(-1)


class LogSizeLoss(RegressionLoss):
    """Squared difference of the log ratios of the sides (YOLOv3, Redmon 2018, section 2.1)."""

    space: ClassVar[Space] = Space.DELTAS
    coder: ClassVar[type] = YOLOv3Coder

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)`` of the last two columns."""
        return (prediction[..., 2:] - target[..., 2:]).square().sum(-1)
