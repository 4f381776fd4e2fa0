"""Gradient harmonizing classification loss."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core.processes import reduce_sum
from harness.core.structures import Activation
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.gradient_density import GradientDensity
from harness.losses.interface import ClassificationLoss, Normalizer


class GHMCLoss(ClassificationLoss):
    """Sigmoid cross entropy, each column weighted by the inverse density of its gradient norm (Li 2019, "Gradient
    harmonized single-stage detector", eq. 3 to 9).

    The gradient norm of a column is ``|p - y|``; see :class:`~harness.losses.gradient_density.GradientDensity` for the
    weights. Every column of every slot is an example, so the loss of a slot is the mean over its columns. The loss has
    a normalizer of its own, the slots: the sum over it is the paper's mean over examples.

    State, where ``momentum`` is above 0: the running density.

    Args:
        bins: of the gradient norm, >= 1.
        momentum: of the density, in [0, 1); 0 keeps no state.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    normalizer: ClassVar[Normalizer | None] = Normalizer.SAMPLED

    def __init__(self, bins: int = 10, momentum: float = 0.0) -> None:
        super().__init__()
        self.density = GradientDensity(bins, momentum)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``, weighted by the density; 0 where the slot has weight 0."""
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        with torch.no_grad():
            norm = replace_column(logits.sigmoid(), index, torch.where(on, -logit, logit).sigmoid())
            valid = torch.ones_like(norm, dtype=torch.bool)
            if weight is not None:
                valid = (weight > 0).unsqueeze(-1).expand_as(norm)
            harmony = self.density(norm, valid, reduce_sum(valid.sum()).clamp(min=1).to(norm.dtype))
        loss = replace_column(off_entropy(logits), index, off_entropy(torch.where(on, -logit, logit)))
        return loss * harmony

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        quality: Tensor | None = None,
        box_loss: Tensor | None = None,
    ) -> Tensor:
        """``(*, S)`` mean over the columns, multiplied by the slot's weight."""
        return super().forward(logits, target, weight=weight, quality=quality) / logits.shape[-1]
