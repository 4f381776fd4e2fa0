"""Complete IoU as a loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_ciou
from harness.losses.interface import RegressionLoss, Space


class CIoULoss(RegressionLoss):
    """``1 - IoU + d^2 / c^2 + a v`` (Zheng 2020, eq. 8 to 11).

    ``d`` is the distance of the centers, ``c`` the diagonal of the enclosing box, ``v`` the squared difference of the
    arc tangents of the aspect ratios times 4 / pi^2, and ``a = v / (1 - IoU + v)`` a trade-off that carries no
    gradient. Identical boxes have loss and gradient 0.

    Args:
        eps: lower bound of every denominator, > 0.
        gate: the aspect term counts only above this IoU (mmdetection and the paper's later version);
            ``None`` counts it everywhere, as torchvision's ``complete_box_iou_loss`` does.

    Raises:
        ValueError: ``eps`` not above 0, or a gate outside [0, 1].
    """

    space: ClassVar[Space] = Space.BOXES
    published_weight: Mapping[str, float] = MappingProxyType({"roi": 12.0})

    def __init__(self, eps: float = 1e-6, gate: float | None = 0.5) -> None:
        super().__init__()
        self.eps = limits.above("eps", eps, 0)
        self.gate = limits.optional(limits.between, "gate", gate, 0, 1)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        return 1 - aligned_ciou(prediction, target, self.eps, self.gate)
