"""Alpha-IoU: the terms of an IoU loss raised to a power."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_intersection, area, aspect_penalty, centers, enclosing_sides
from harness.losses.interface import RegressionLoss, Space


class AlphaIoULoss(RegressionLoss):
    """``1 - IoU^alpha + penalty^alpha`` (He et al. 2021, "Alpha-IoU", eq. 3 to 5).

    The penalty is none (``iou``), the empty share of the enclosing box (``giou``), the squared distance of the centers
    over the squared diagonal of the enclosing box (``diou``), or the latter and, raised apart, CIoU's penalty on aspect
    ratios, whose trade-off carries no gradient (``ciou``). With ``alpha`` above 1 accurate boxes get more gradient.

    The authors' code returns NaN for identical boxes in the form ``ciou``; here loss and gradient are 0 there.

    Args:
        kind: ``iou | giou | diou | ciou``.
        alpha: the power, > 0; the paper recommends 3.
        eps: added to a base before it is raised, and lower bound of every denominator, > 0.

    Raises:
        ValueError: an unknown kind or a parameter out of range.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, kind: str = "ciou", alpha: float = 3.0, eps: float = 1e-9) -> None:
        super().__init__()
        self.kind = limits.one_of("kind", kind, ("iou", "giou", "diou", "ciou"))
        self.alpha = limits.above("alpha", alpha, 0)
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        intersection = aligned_intersection(prediction, target)
        union = (area(prediction) + area(target) - intersection).clamp(min=self.eps)
        iou = intersection / union
        loss = 1 - self._power(iou + self.eps)
        if self.kind == "iou":
            return loss
        width, height = enclosing_sides(prediction, target)
        if self.kind == "giou":
            enclosure = torch.maximum(width * height, union)
            return loss + self._power((enclosure - union) / enclosure + self.eps)
        diagonal = (width.square() + height.square()).clamp(min=self.eps)
        distance = (centers(prediction) - centers(target)).square().sum(-1)
        loss = loss + self._power(distance / diagonal)
        if self.kind == "diou":
            return loss
        penalty = aspect_penalty(prediction, target, self.eps)
        trade_off = penalty.detach() / (1 - iou.detach() + penalty.detach()).clamp(min=self.eps)
        return loss + self._power(trade_off * penalty + self.eps)

    def _power(self, base: Tensor) -> Tensor:
        # With alpha below 1 the slope at 0 is infinite: the bound makes it 0.
        return base.clamp(min=torch.finfo(base.dtype).tiny).pow(self.alpha)
