"""Absolute difference."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.losses.interface import RegressionLoss, Space


class L1Loss(RegressionLoss):
    """``|prediction - target|`` of each delta; RetinaNet's in torchvision."""

    space: ClassVar[Space] = Space.DELTAS

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)``."""
        return (prediction - target).abs()
