"""Generalized IoU as a loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_giou
from harness.losses.interface import RegressionLoss, Space


class GIoULoss(RegressionLoss):
    """``1 - IoU + (C - U) / C`` (Rezatofighi 2019, algorithm 1): ``U`` is the area of the union, ``C`` that of the
    smallest box that encloses both. It has a gradient where the boxes do not touch.

    torchvision's ``generalized_box_iou_loss`` and YOLOX's ``giou`` differ only in how they avoid 0 / 0.

    Args:
        eps: lower bound of every denominator, > 0.

    Raises:
        ValueError: ``eps`` not above 0.
    """

    space: ClassVar[Space] = Space.BOXES
    published_weight: Mapping[str, float] = MappingProxyType({"roi": 10.0, "dense": 2.0})

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        return 1 - aligned_giou(prediction, target, self.eps)
