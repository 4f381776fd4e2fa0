"""Gradient harmonizing regression loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.processes import reduce_sum
from harness.losses.gradient_density import GradientDensity
from harness.losses.interface import Normalizer, RegressionLoss, Space


class GHMRLoss(RegressionLoss):
    """``sqrt(x^2 + mu^2) - mu`` of the difference ``x`` of each delta, weighted by the inverse density of its gradient
    norm (Li 2019, "Gradient harmonized single-stage detector", eq. 10 to 13).

    The gradient norm is ``|x| / sqrt(x^2 + mu^2)``; see :class:`~harness.losses.gradient_density.GradientDensity` for
    the weights. Every delta of every slot is an example, so the loss of a slot is the mean over its four. The loss has
    a normalizer of its own, the positives: the sum over it is the paper's mean over examples.

    State, where ``momentum`` is above 0: the running density.

    Args:
        mu: width of the quadratic part, > 0.
        bins: of the gradient norm, >= 1.
        momentum: of the density, in [0, 1); 0 keeps no state.

    Raises:
        ValueError: a parameter out of range.
    """

    space: ClassVar[Space] = Space.DELTAS
    published_weight: Mapping[str, float] = MappingProxyType({"dense": 10.0})
    normalizer: ClassVar[Normalizer | None] = Normalizer.POSITIVES

    def __init__(self, mu: float = 0.02, bins: int = 10, momentum: float = 0.0) -> None:
        super().__init__()
        self.mu = limits.above("mu", mu, 0)
        self.density = GradientDensity(bins, momentum)

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """``(*, S, 4)``, weighted by the density; 0 where the slot has weight 0."""
        difference = prediction - target
        length = torch.hypot(difference, torch.full_like(difference, self.mu))
        with torch.no_grad():
            count = torch.ones_like(difference)
            if weight is not None:
                count = weight.unsqueeze(-1).to(difference.dtype).expand_as(difference)
            harmony = self.density((difference / length).abs(), count > 0, reduce_sum(count.sum()).clamp(min=1))
        return (length - self.mu) * harmony

    def forward(
        self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None, image_size: Tensor | None = None
    ) -> Tensor:
        """``(*, S)`` mean over the deltas, multiplied by the slot's weight."""
        return super().forward(prediction, target, weight=weight) / target.shape[-1]
