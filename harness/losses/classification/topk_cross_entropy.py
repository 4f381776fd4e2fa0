"""Cross entropy of the hardest slots only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.hardest import hardest_share
from harness.losses.interface import ClassificationLoss


class TopKCrossEntropyLoss(ClassificationLoss):
    """Mean softmax cross entropy of the given share of the slots with the highest one (Wu 2016, "High-performance
    semantic segmentation", section 2.2; in the form of nnU-Net).

    Positives and negatives of the whole batch are ranked together, after the class weights. A slot that is kept counts
    (slots / kept) times, so that the normalizer ``sampled`` gives the mean over those kept. At least one is kept.

    Args:
        fraction: share of the slots that is kept, in (0, 1].
        class_weight: one factor per column of the logits, >= 0; ``None`` weighs all alike.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SOFTMAX

    def __init__(self, fraction: float = 0.7, class_weight: Sequence[float] | None = None) -> None:
        super().__init__()
        self.fraction = limits.above("fraction", fraction, 0, 1)
        self.cross_entropy = CrossEntropyLoss(class_weight)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S)``."""
        loss = self.cross_entropy.elementwise(logits, target)
        return loss * hardest_share(loss, weight, self.fraction)
