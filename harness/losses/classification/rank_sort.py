"""Rank & Sort loss: positives above negatives, and among themselves by the quality of their boxes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation, Need
from harness.losses.interface import ClassificationLoss, Normalizer
from harness.losses.rank_and_sort import rank_and_sort


class RankSortLoss(ClassificationLoss):
    """The ranking error plus the sorting error of every positive (Oksuz et al. 2021, "Rank & Sort loss", eq. 4 to 11).

    All columns of all slots of the batch are ranked together. With ``N-`` the negatives and ``rank`` all examples
    above a positive, its ranking error is ``N- / rank``. Its sorting error is how much the mean ``1 - quality`` of the
    positives above it exceeds the same mean over those of them whose quality is at least its own. Divided by the
    positives, its own normalizer, the sum is the paper's loss.

    The gradient is error-driven, not the derivative of the value: a positive is pulled up by its errors, which are
    shared out among the negatives (positives of lower quality) above it, pushing them down. The value of a negative is
    0, so samplers that rank by the loss are refused. The box loss is scaled to the value of this one in every step
    (section 4), so that no weight needs tuning.

    Args:
        delta: half the width of the band in which two logits count as partly out of order, >= 0; 0 is the plain step.

    Raises:
        ValueError: ``delta`` below 0.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    needs: frozenset[Need] = frozenset({Need.QUALITY})
    normalizer: ClassVar[Normalizer | None] = Normalizer.POSITIVES
    ranks_slots: ClassVar[bool] = False
    scales_boxes: ClassVar[bool] = True
    bucketed: ClassVar[bool] = False

    def __init__(self, delta: float = 0.5) -> None:
        super().__init__()
        self.delta = limits.at_least("delta", delta, 0)

    def terms(
        self, logits: Tensor, target: Tensor, quality: Tensor, *, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``(*, S)`` ranking error and ``(*, S)`` sorting error of the positive slots, 0 in the others."""
        return rank_and_sort(logits, target, quality, weight, self.delta, self.bucketed)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S)``, the sum of :meth:`terms`; without a quality every positive is as good as any other."""
        quality = torch.ones_like(logits[..., 0]) if quality is None else quality
        ranking, sorting = self.terms(logits, target, quality, weight=weight)
        return ranking + sorting
