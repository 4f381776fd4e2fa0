"""How many positives and negatives an image may train on: the one place for the quotas of all samplers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor


def require_count(name: str, value: object, least: int) -> None:
    """Refuses ``value`` unless it is a whole number of at least ``least``.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"sampler.{name}={value} must be a whole number of at least {least}")


def require_between(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuses ``value`` unless it lies in ``[low, high]``; a NaN lies nowhere.

    Raises:
        ValueError: it does not.
    """
    if not low <= value <= high or math.isinf(value):
        valid = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"sampler.{name}={value} must be {valid}")


@dataclass(frozen=True)
class Quota:
    """The quota of Fast R-CNN (Girshick 2015, section 2.3) with the bound of mmdetection.

    At most ``int(num * pos_fraction)`` positives; negatives fill up to ``num``, so that missing positives become
    negatives and missing negatives leave slots unused.

    Args:
        num: slots of an image, >= 1. An image with fewer candidates has as many slots as candidates. 0 is refused: a
            stage that trains on nothing is a mistake.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most ``int(neg_pos_ub * max(1, positives))`` negatives, >= 0; -1 for no such bound.
        add_gt_as_proposals: asks an RoI stage to let the ground-truth boxes join the proposals.

    Raises:
        ValueError: a value is out of its range.
    """

    num: int
    pos_fraction: float
    neg_pos_ub: float = -1
    add_gt_as_proposals: bool = True

    def __post_init__(self) -> None:
        require_count("num", self.num, 1)
        require_between("pos_fraction", self.pos_fraction, 0, 1)
        if self.neg_pos_ub != -1 and not 0 <= self.neg_pos_ub < math.inf:
            raise ValueError(f"sampler.neg_pos_ub={self.neg_pos_ub} must be at least 0, or -1 for no bound")

    @property
    def num_pos(self) -> int:
        """The most positives of an image."""
        return int(self.num * self.pos_fraction)

    def negatives_beside(self, positives: Tensor) -> Tensor:
        """The most negatives, ``(*, 1)`` int64, of images that take ``positives (*, 1)`` positives."""
        negatives = self.num - positives
        if self.neg_pos_ub < 0:
            return negatives
        bound = (positives.clamp(min=1).to(torch.float64) * self.neg_pos_ub).long()
        return torch.minimum(negatives, bound)
