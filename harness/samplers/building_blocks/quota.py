"""How many positives and negatives an image may train on: the one place for the quotas of all samplers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core import limits
from harness.core.precision import double_precision


@dataclass(frozen=True)
class Quota:
    """The quota of Fast R-CNN (Girshick 2015, section 2.3) with the bound of mmdetection.

    At most ``int(num * pos_fraction)`` positives; negatives fill up to ``num``, so that missing positives become
    negatives and missing negatives leave slots unused.

    Args:
        num: slots per image, >= 1. An image with fewer candidates has as many slots as candidates. 0 is refused: a
            stage that trains on nothing is a mistake.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most ``int(neg_pos_ub * max(1, positives))`` negatives, >= 0; -1 for no such bound.

    Raises:
        ValueError: a value is out of its range.
    """

    num: int
    pos_fraction: float
    neg_pos_ub: float = -1

    def __post_init__(self) -> None:
        limits.count("num", self.num, 1)
        limits.between("pos_fraction", self.pos_fraction, 0, 1)
        bounded = self.neg_pos_ub == -1 or 0 <= self.neg_pos_ub < math.inf
        limits.require(bounded, "neg_pos_ub", self.neg_pos_ub, "at least 0, or -1 for no bound")

    @property
    def num_pos(self) -> int:
        """The most positives of an image."""
        return int(self.num * self.pos_fraction)

    def negatives_beside(self, positives: Tensor, images: int = 1) -> Tensor:
        """The most negatives, ``(*, 1)`` int64, beside ``positives (*, 1)``, of an image or of so many together."""
        negatives = self.num * images - positives
        if self.neg_pos_ub < 0:
            return negatives
        bound = (double_precision(positives.clamp(min=1)) * self.neg_pos_ub).long()
        return torch.minimum(negatives, bound)
