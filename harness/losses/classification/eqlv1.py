"""Equalization loss: rare classes are not pushed down by the objects of others."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation
from harness.losses.class_counts import CountedClassificationLoss
from harness.losses.columns import off_entropy, replace_column, target_column


class EQLv1Loss(CountedClassificationLoss):
    """Sigmoid cross entropy without the negative terms of rare classes on slots with an object (Tan et al. 2020,
    "Equalization loss for long-tailed object recognition", eq. 3 to 5).

    A class is rare if the share of the training images that hold it is below ``rare_share``. On slots without an
    object all columns count.

    Args:
        rare_share: the paper's lambda, in [0, 1]; it takes 0.00176 for LVIS v0.5.

    Raises:
        ValueError: a share out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID

    def __init__(self, rare_share: float = 0.00176) -> None:
        super().__init__()
        self.rare_share = limits.between("rare_share", rare_share, 0, 1)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``.

        Raises:
            ValueError: the class counts are missing.
        """
        self.check_counts(logits)
        rare = self.images.to(logits.dtype) / self.num_images < self.rare_share
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        values = off_entropy(logits) * ~(on & rare)
        return replace_column(values, index, off_entropy(logit.where(~on, -logit)))
