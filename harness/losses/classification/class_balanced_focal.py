"""Class-balanced focal loss: each class weighted by its effective number of objects."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.precision import double_precision
from harness.core.structures import Activation
from harness.losses.class_counts import CountedClassificationLoss
from harness.losses.classification.focal import FocalLoss


class ClassBalancedFocalLoss(CountedClassificationLoss):
    """Sigmoid focal loss without alpha, each slot weighted by its class (Cui et al. 2019, "Class-balanced loss based on
    effective number of samples", eq. 12).

    A class with ``n`` objects in the training set has the weight ``(1 - beta) / (1 - beta^n)``, scaled so that the mean
    over the classes is 1. All columns of a slot take the weight of its class. The paper classifies images; a slot
    without an object, which these do not have, takes the weight 1.

    Args:
        beta: in [0, 1); 0 weighs all classes alike, towards 1 by the inverse of their number.
        gamma: focusing exponent, >= 0.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID

    def __init__(self, beta: float = 0.9999, gamma: float = 2.0) -> None:
        super().__init__()
        self.beta = limits.require(0 <= beta < 1, "beta", beta, "at least 0 and below 1")
        self.gamma = limits.at_least("gamma", gamma, 0)
        self.focal = FocalLoss(alpha=-1, gamma=gamma)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``.

        Raises:
            ValueError: the class counts are missing.
        """
        self.check_counts(logits)
        balance = torch.cat((self.class_weights().to(logits.dtype), logits.new_ones(1)))  # the last: no object
        return self.focal.elementwise(logits, target) * balance[target].unsqueeze(-1)

    def class_weights(self) -> Tensor:
        """``(C,)`` weights of the classes, with mean 1 over those that occur; 1 for the others."""
        occurs = self.objects > 0
        counts = double_precision(self.objects)
        raw = (1 - self.beta) / (1 - torch.pow(self.beta, counts)).where(occurs, 1.0)
        mean = raw.where(occurs, 0.0).sum() / occurs.sum().clamp(min=1)
        return (raw / mean).where(occurs, 1.0)
