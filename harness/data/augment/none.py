"""No augmentation."""

from __future__ import annotations

from harness.data.augment.protocol import Surroundings
from harness.data.dataset import DatasetItem


class NoAugment:
    """The training images as they are."""

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem:
        return sample
