"""Focaler-IoU: an IoU loss whose IoU is stretched over an interval of interest."""

from __future__ import annotations

from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou
from harness.losses.interface import RegressionLoss
from harness.losses.regression.overlap_wrapper import OverlapWrapper


class FocalerIoULoss(OverlapWrapper):
    """``base + IoU - IoU_focaler`` with ``IoU_focaler = clamp((IoU - d) / (u - d), 0, 1)`` (Zhang and Zhang 2024,
    "Focaler-IoU", eq. 5 to 11).

    An interval of low IoUs focuses on hard boxes, one of high IoUs on easy ones; outside of it the IoU term is flat.

    Args:
        base: the IoU loss that is changed, on decoded boxes; the default is ``1 - IoU``.
        d: where the interval begins, at least 0 and below ``u``.
        u: where it ends, at most 1.
        eps: lower bound of the union, px^2, > 0.

    Raises:
        ValueError: a parameter out of range, or ``base`` is no loss of decoded boxes.
    """

    def __init__(self, base: RegressionLoss | None = None, d: float = 0.0, u: float = 0.95, eps: float = 1e-7) -> None:
        super().__init__(base, eps)
        self.u = limits.above("u", u, 0, 1)
        self.d = limits.require(0 <= d < u, "d", d, f"at least 0 and below u={u}")

    def overlap_gain(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``(*, S)``: the stretched IoU less the IoU."""
        iou = aligned_iou(prediction, target, self.eps)
        return ((iou - self.d) / (self.u - self.d)).clamp(0, 1) - iou
