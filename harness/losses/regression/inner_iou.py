"""Inner-IoU: an IoU loss that compares the inner (or outer) auxiliary boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou, centers
from harness.losses.interface import RegressionLoss
from harness.losses.regression.overlap_wrapper import OverlapWrapper


class InnerIoULoss(OverlapWrapper):
    """``base + IoU - IoU_inner`` (Zhang et al. 2023, "Inner-IoU", eq. 9 to 18).

    ``IoU_inner`` is the IoU of the two boxes after both are scaled by ``ratio`` about their centers. A ratio below 1
    makes the gradient of boxes with a high IoU steeper, a ratio above 1 lets boxes that are apart attract each other.

    Args:
        base: the IoU loss that is changed, on decoded boxes; the default is ``1 - IoU``.
        ratio: of the auxiliary boxes' sides to the boxes', > 0; the paper studies 0.5 to 1.5.
        eps: lower bound of the unions, px^2, > 0.

    Raises:
        ValueError: a parameter out of range, or ``base`` is no loss of decoded boxes.
    """

    def __init__(self, base: RegressionLoss | None = None, ratio: float = 0.8, eps: float = 1e-7) -> None:
        super().__init__(base, eps)
        self.ratio = limits.above("ratio", ratio, 0)

    def overlap_gain(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``(*, S)``: inner IoU less IoU."""
        inner = aligned_iou(self._scaled(prediction), self._scaled(target), self.eps)
        return inner - aligned_iou(prediction, target, self.eps)

    def _scaled(self, boxes: Tensor) -> Tensor:
        center, half = centers(boxes), (boxes[..., 2:] - boxes[..., :2]) * (self.ratio / 2)
        return torch.cat((center - half, center + half), -1)
