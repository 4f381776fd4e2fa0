"""Normalized Wasserstein distance between boxes as Gaussians."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import centers
from harness.losses.interface import RegressionLoss, Space


class NWDLoss(RegressionLoss):
    """A rising function of the Wasserstein distance of two boxes, for tiny objects (Wang et al. 2021, eq. 4 to 9).

    A box is the Gaussian around its center with standard deviations of half its sides, so that the squared distance is
    ``W^2 = |difference of the centers|^2 + (difference of the widths^2 + of the heights^2) / 4``, px^2. It has a
    gradient where the boxes do not touch, and one pixel costs the same for a small and a large box.

    Args:
        mode: ``exp`` is ``1 - exp(-W / constant)``, the paper's loss; ``sqrt`` is ``W``, ``log`` is ``ln(1 + W^2)``,
            ``norm_sqrt`` is ``1 - 1 / (gamma + W)`` and ``w2`` is ``W^2``, of the authors' code.
        constant: px, > 0: of the order of the objects' mean size (12.8 in the paper, for AI-TOD).
        gamma: of ``norm_sqrt``, >= 1; a perfect box costs ``1 - 1 / gamma`` there.
        eps: added to ``W^2`` and to the sides, > 0; keeps the slope of the root finite.

    Raises:
        ValueError: an unknown mode or a parameter out of range.
    """

    space: ClassVar[Space] = Space.BOXES

    def __init__(self, mode: str = "exp", constant: float = 12.8, gamma: float = 1.0, eps: float = 1e-12) -> None:
        super().__init__()
        self.mode = limits.one_of("mode", mode, ("exp", "sqrt", "log", "norm_sqrt", "w2"))
        self.constant = limits.above("constant", constant, 0)
        self.gamma = limits.at_least("gamma", gamma, 1)
        self.eps = limits.above("eps", eps, 0)
        self.published_weight = {"rpn": 10.0, "roi": 10.0} if mode == "exp" else {}

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S)``."""
        shift = centers(prediction) - centers(target)
        stretch = (prediction[..., 2:] - prediction[..., :2] - target[..., 2:] + target[..., :2]) / 2
        squared = torch.cat((shift, stretch), -1).square().sum(-1) + self.eps
        if self.mode == "w2":
            return squared
        if self.mode == "log":
            return squared.log1p()
        distance = squared.sqrt()
        if self.mode == "sqrt":
            return distance
        if self.mode == "norm_sqrt":
            return 1 - 1 / (self.gamma + distance)
        return 1 - torch.exp(-distance / self.constant)
