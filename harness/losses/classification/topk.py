"""The hardest slots only, for sigmoid heads."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation, ClassCounts
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.hardest import hardest_share
from harness.losses.interface import ClassificationLoss


class TopKLoss(ClassificationLoss):
    """Another loss of sigmoid logits, of the given fraction of the slots with the highest values only (Wu et al. 2016,
    "High-performance semantic segmentation", section 2.2: online bootstrapping; for softmax heads see
    :class:`~harness.losses.classification.TopKCrossEntropyLoss`).

    A slot's value is the sum over its columns. Positives and negatives of the whole batch are ranked together. A slot
    that is kept counts (slots / kept) times, so that the normalizer ``sampled`` gives the mean over those kept. At
    least one is kept.

    Args:
        base: the loss; the default is the binary cross entropy.
        fraction: share of the slots that is kept, in (0, 1].

    Raises:
        ValueError: a fraction out of range, or ``base`` reads a softmax.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID

    def __init__(self, base: ClassificationLoss | None = None, fraction: float = 0.7) -> None:
        super().__init__()
        self.base = BinaryCrossEntropyLoss() if base is None else base
        sigmoid = self.base.activation is Activation.SIGMOID
        limits.require(sigmoid, "base", type(self.base).__name__, "a loss of sigmoid logits")
        self.fraction = limits.above("fraction", fraction, 0, 1)
        self.needs = self.base.needs
        self.published_weight = dict(self.base.published_weight)
        self.background_last = self.base.background_last

    def prepare(self, columns: int) -> None:
        """Prepares the base."""
        self.base.prepare(columns)

    def set_class_counts(self, counts: ClassCounts) -> None:
        """Hands them to the base."""
        self.base.set_class_counts(counts)

    def activation_of(self, logits: Tensor) -> Tensor:
        """``(*, C)`` probabilities of the base."""
        return self.base.activation_of(logits)

    def elementwise(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        quality: Tensor | None = None,
        **inputs: Any,
    ) -> Tensor:
        """``(*, S)``."""
        loss = self.base.elementwise(logits, target, weight=weight, quality=quality, **inputs)
        loss = loss.sum(-1) if loss.dim() > target.dim() else loss
        return loss * hardest_share(loss, weight, self.fraction)
