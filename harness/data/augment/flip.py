"""Horizontal flip."""

from __future__ import annotations

from torchvision.transforms import v2

from harness.core import limits
from harness.data.augment.boxes import apply
from harness.data.augment.protocol import Surroundings
from harness.data.dataset import DatasetItem


class Flip:
    """Mirror left and right with probability ``p``: the standard augmentation of COCO detectors.

    Raises:
        ValueError: ``p`` is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.flip = v2.RandomHorizontalFlip(limits.between("p", p, 0, 1))

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem:
        return apply(self.flip, sample)
