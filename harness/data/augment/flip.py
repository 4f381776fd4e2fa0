"""Horizontal flip."""

from __future__ import annotations

import torch

from harness.core import limits
from harness.data.augment.boxes import mirrored
from harness.data.augment.protocol import Surroundings
from harness.data.dataset import DatasetItem


class Flip:
    """Mirror left and right with probability ``p``: the standard augmentation of COCO detectors.

    Raises:
        ValueError: ``p`` is no probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = limits.between("p", p, 0, 1)

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem:
        return mirrored(sample, around.keypoint_mirror) if torch.rand(1) < self.p else sample
