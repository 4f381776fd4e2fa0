"""No augmentation."""

from __future__ import annotations

from harness.data.augment.protocol import Surroundings
from harness.data.dataset import Sample


class NoAugment:
    """The training images as they are."""

    def __call__(self, sample: Sample, around: Surroundings) -> Sample:
        return sample
