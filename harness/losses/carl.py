"""Classification-aware regression loss (CARL): PISA's third part."""

from __future__ import annotations

from torch import Tensor

from harness.core import limits
from harness.core.processes import gather_sum, reduce_sum
from harness.losses.interface import RegressionLoss
from harness.losses.terms import BoxTerm, Slots


class CARLTerm(BoxTerm):
    """A further box loss of the positives, weighted by the score of their class, through which it also trains the
    scores (Cao et al. 2020, "Prime sample attention in object detection", section 4.2, eq. 6 and 7).

    A positive of score ``p`` weighs ``(bias + (1 - bias) p) ** k``, scaled so that the weights sum to the number of
    positives. The weights keep their gradient: where the box is bad the score falls, where it is good the score rises.

    Args:
        loss: of the boxes.
        k: exponent of the weights, >= 0.
        bias: least weight before the exponent, in [0, 1].
        weight: factor of the term, >= 0.
        normalizer: what its sum is divided by; ``None``: what the box loss is divided by.
        start: share of the training from which it counts, in [0, 1].

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(
        self,
        loss: RegressionLoss,
        k: float = 1.0,
        bias: float = 0.2,
        weight: float = 1.0,
        normalizer: str | None = None,
        start: float = 0.0,
    ) -> None:
        super().__init__(loss, weight, normalizer, start)
        self.k = limits.at_least("k", k, 0)
        self.bias = limits.between("bias", bias, 0, 1)

    def values(self, slots: Slots) -> Tensor:
        positive = slots.counts.positive.to(slots.logits.dtype)
        share = (self.bias + (1 - self.bias) * slots.own_score).pow(self.k) * positive
        scale = reduce_sum(positive.sum()) / gather_sum(share.sum()).clamp(min=1e-12)
        return super().values(slots) * share * scale
