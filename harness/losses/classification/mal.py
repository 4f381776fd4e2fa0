"""Matchability-aware loss: cross entropy towards a power of the box's quality."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation, Need
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.interface import ClassificationLoss


class MALLoss(ClassificationLoss):
    """DEIM's loss (Huang et al. 2025, "DEIM", eq. 5).

    ``-q^gamma log p - (1 - q^gamma) log(1 - p)`` in the column of a positive of quality ``q`` and
    ``-alpha p^gamma log(1 - p)`` in all others; ``p^gamma`` carries no gradient. Unlike varifocal loss, positives of
    low quality keep their full weight.

    Args:
        gamma: >= 0; the authors train with 1.5.
        alpha: weight of the columns that are off, >= 0; ``None`` is 1, the authors' choice.

    Raises:
        ValueError: a parameter below 0.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    needs: frozenset[Need] = frozenset({Need.QUALITY})

    def __init__(self, gamma: float = 1.5, alpha: float | None = None) -> None:
        super().__init__()
        self.gamma = limits.at_least("gamma", gamma, 0)
        self.alpha = limits.optional(limits.at_least, "alpha", alpha, 0)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``; without a quality every positive has 1."""
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        share = on.to(logits.dtype)
        if quality is not None:
            share = share * quality.unsqueeze(-1).to(logits.dtype).pow(self.gamma)
        positive = share * off_entropy(-logit) + (1 - share) * off_entropy(logit)
        return replace_column(self._off(logits), index, positive.where(on, self._off(logit)))

    def _off(self, logits: Tensor) -> Tensor:
        balance = 1.0 if self.alpha is None else self.alpha
        return balance * logits.detach().sigmoid().pow(self.gamma) * off_entropy(logits)
