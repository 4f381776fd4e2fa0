"""A stage's loss: one for the classes, one for the boxes, and what their sums are divided by."""

from __future__ import annotations

from torch import Tensor, nn

from harness.core import limits
from harness.core.structures import SamplingResult
from harness.losses.interface import ClassificationLoss, Normalizer, RegressionLoss


class Loss(nn.Module):
    """The pair, its weights and its normaliser.

    Args:
        classification: the loss of the logits, over all used slots.
        regression: the loss of the boxes, over the positive slots.
        normalizer: one of ``sampled | positives | image_positives | weights``; a loss that declares a normaliser of its
            own (GHM) keeps it.
        classification_weight: factor of the classification term, >= 0.
        regression_weight: factor of the regression term, >= 0.

    Raises:
        ValueError: an unknown normaliser or a negative weight.
    """

    def __init__(
        self,
        classification: ClassificationLoss,
        regression: RegressionLoss,
        normalizer: str = Normalizer.SAMPLED,
        classification_weight: float = 1.0,
        regression_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.classification = classification
        self.regression = regression
        self.normalizer = Normalizer(limits.one_of("normalizer", normalizer, Normalizer))
        self.classification_weight = limits.at_least("classification_weight", classification_weight, 0)
        self.regression_weight = limits.at_least("regression_weight", regression_weight, 0)

    def reduce(self, loss: Tensor, sample: SamplingResult, own: Normalizer | None = None) -> Tensor:
        """The scalar of per-slot losses ``(B, S)``: their sum over the term's ``own`` normaliser, else the pair's."""
        match own or self.normalizer:
            case Normalizer.SAMPLED:
                return loss.sum() / sample.used.sum().clamp(min=1)
            case Normalizer.POSITIVES:
                return loss.sum() / (sample.positive & sample.used).sum().clamp(min=1)
            case Normalizer.IMAGE_POSITIVES:
                per_image = (sample.positive & sample.used).sum(-1).clamp(min=1)
                return (loss.sum(-1) / per_image).mean()
            case Normalizer.WEIGHTS:
                # Weights may sum to less than one slot: a bound of 1 would then shrink the loss.
                return loss.sum() / sample.weight.sum().clamp(min=1e-6)
