"""Kullback-Leibler divergence between boxes as Gaussians."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.boxes import centers
from harness.losses.interface import RegressionLoss, Space


class KLDLoss(RegressionLoss):
    """``1 - 1 / (tau + f(D))`` of the divergence ``D`` of two boxes (Yang et al. 2021, "Learning high-precision
    bounding box for rotated object detection via Kullback-Leibler divergence", eq. 7 to 9 and 15).

    A box is the Gaussian around its center with standard deviations of half its sides, so for boxes with axis-parallel
    sides, the prediction being ``p`` and the object ``t``, ``D`` is the sum over both directions of
    ``2 (difference of the centers / t's side)^2 + ((p's side / t's side)^2 - 1) / 2 - ln(p's side / t's side)``. It
    does not change with the scale: an error of a tenth of the object's side costs the same for any object.

    Left out: rotated boxes; detectors here predict boxes with axis-parallel sides.

    Args:
        function: ``log1p`` is ``f(D) = ln(1 + D)``, the paper's choice, ``sqrt`` the root, ``none`` is ``D`` itself.
        tau: >= 1; the loss of a perfect box is ``1 - 1 / tau``.
        eps: lower bound of the sides, px, > 0.

    Raises:
        ValueError: an unknown function or a parameter out of range.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, function: str = "log1p", tau: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.function = limits.one_of("function", function, ("log1p", "sqrt", "none"))
        self.tau = limits.at_least("tau", tau, 1)
        self.eps = limits.above("eps", eps, 0)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        side = (prediction[..., 2:] - prediction[..., :2]).clamp(min=self.eps)
        target_side = (target[..., 2:] - target[..., :2]).clamp(min=self.eps)
        shift, ratio = (centers(prediction) - centers(target)) / target_side, side / target_side
        terms = 2 * shift.square() + (ratio.square() - 1) / 2 - ratio.log()
        divergence = terms.sum(-1).clamp(min=0)  # rounding may take a perfect box below 0
        if self.function == "log1p":
            return 1 - 1 / (self.tau + divergence.log1p())
        if self.function == "sqrt":
            # The root has no slope at 0; a divergence of 1e-12 is a thousandth of a pixel on a side of 1000.
            return 1 - 1 / (self.tau + divergence.clamp(min=1e-12).sqrt())
        return 1 - 1 / (self.tau + divergence)
