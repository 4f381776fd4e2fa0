"""Photometric distortion."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from harness.core import limits
from harness.data.augment.flip import Flip
from harness.data.augment.protocol import Surroundings
from harness.data.dataset import DatasetItem


class Photometric:
    """Brightness, contrast, saturation, hue and channel order, each with probability ``p``, then a flip.

    Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2, after Howard, 2013.

    Args:
        p: probability of each distortion.
        brightness: range of factors, within 0 to 10.
        contrast: range of factors, within 0 to 10.
        saturation: range of factors, within 0 to 10.
        hue: range of turns, within -0.5 to 0.5.
        flip: probability.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        p: float = 0.5,
        brightness: Sequence[float] = (0.875, 1.125),
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: Sequence[float] = (-0.05, 0.05),
        flip: float = 0.5,
    ) -> None:
        self.distort = v2.RandomPhotometricDistort(
            brightness=limits.interval("brightness", brightness, 0, 10),
            contrast=limits.interval("contrast", contrast, 0, 10),
            saturation=limits.interval("saturation", saturation, 0, 10),
            hue=limits.interval("hue", hue, -0.5, 0.5),
            p=limits.between("p", p, 0, 1),
        )
        self.flip = Flip(limits.between("flip", flip, 0, 1))

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem:
        image = self.distort(tv_tensors.Image(sample[0])).as_subclass(Tensor)
        return self.flip((image, sample[1]), around)
