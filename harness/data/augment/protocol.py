"""What an augmentation is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.data.dataset import DatasetItem


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an augmentation may know beyond its sample."""

    fetch: Callable[[int], DatasetItem]  # any training sample by index, not augmented, the caller's own
    size: int  # training images
    epochs_left: float  # epochs of training still to come, infinite where the end is not known
    keypoint_mirror: tuple[int, ...] = ()  # position of each keypoint's twin under a left-right flip
    share_left: float = 1.0  # share of the training still to come, in [0, 1]


class Augment(Protocol):
    """Turns a sample (image uint8 (3, H, W), target in torchvision's detection format) into another one.

    It draws from torch's global CPU generator only, which is set for each sample from (data seed, epoch, index); it
    must return boxes inside the image, none of them degenerate, and all targets' tensors with one row per box.
    """

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem: ...
