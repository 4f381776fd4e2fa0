"""Mosaic and mixup."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.core import limits
from harness.data.augment.boxes import merge
from harness.data.augment.multi_scale import rescale, resize_onto, uniform
from harness.data.augment.photometric import Photometric
from harness.data.augment.protocol import Surroundings
from harness.data.dataset import DatasetItem, Target


class MosaicMixup:
    """Four images in one, another one blended over it; ordinary images at the end of training.

    Ge et al., "YOLOX", 2021, section 2.1 (strong augmentation, off for the last 15 of 300 epochs); mosaic: Bochkovskiy
    et al., "YOLOv4", 2020, section 3.3; mixup for detection: Zhang et al., "Bag of Freebies", 2019, section 3.1.
    Photometric distortion and a flip are on all the time, as there.

    Args:
        mosaic: probability.
        mixup: probability.
        scale: range of the factor by which a mosaic of twice the image's size is resized, within 0.05 to 10, before it
            is cropped or padded to the image's size.
        mixup_scale: the same of the blended image.
        off_last_epochs: for so many epochs before the end of training both are off, >= 0.
        off_last_share: and for this share of the training before its end, in [0, 1]; the longer of the two counts.
        flip: probability.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(
        self,
        mosaic: float = 1.0,
        mixup: float = 0.5,
        scale: Sequence[float] = (0.5, 1.5),
        mixup_scale: Sequence[float] = (0.5, 1.5),
        off_last_epochs: float = 1.0,
        flip: float = 0.5,
        off_last_share: float = 0.0,
    ) -> None:
        self.mosaic, self.mixup = limits.between("mosaic", mosaic, 0, 1), limits.between("mixup", mixup, 0, 1)
        self.scale = limits.interval("scale", scale, 0.05, 10)
        self.mixup_scale = limits.interval("mixup_scale", mixup_scale, 0.05, 10)
        self.off_last_epochs = limits.at_least("off_last_epochs", off_last_epochs, 0)
        self.off_last_share = limits.between("off_last_share", off_last_share, 0, 1)
        self.finish = Photometric(flip=flip)

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem:
        if around.epochs_left > self.off_last_epochs and around.share_left > self.off_last_share:
            height, width = sample[0].shape[-2:]
            if torch.rand(()) < self.mosaic:
                others = [_other(around) for _ in range(3)]
                sample = rescale(stitch([sample, *others]), self.scale, (height, width))
            # As in YOLOX, only an image with objects is blended in: an empty one would merely fade the sample.
            if torch.rand(()) < self.mixup and (second := _other(around))[1]["labels"].any():
                sample = blend(sample, rescale(second, self.mixup_scale, (height, width)))
        return self.finish(sample, around)


def _other(around: Surroundings) -> DatasetItem:
    return around.fetch(int(torch.randint(around.size, ())))


def stitch(samples: Sequence[DatasetItem]) -> DatasetItem:
    """Four samples around a random point of a canvas of twice the first one's size, each fitted into that size.

    Sources touch the point with one corner and are cut at the edges of the canvas; the image id is the first one's.
    """
    height, width = samples[0][0].shape[-2:]
    canvas = (2 * height, 2 * width)
    middle_y, middle_x = int(height * uniform(0.5, 1.5)), int(width * uniform(0.5, 1.5))
    image: Tensor | None = None
    target: Target | None = None
    for quarter, (source, notes) in enumerate(samples):
        ratio = min(height / source.shape[-2], width / source.shape[-1])
        size = [max(1, round(side * ratio)) for side in source.shape[-2:]]
        top = middle_y - size[0] if quarter < 2 else middle_y
        left = middle_x - size[1] if quarter % 2 == 0 else middle_x
        placed, moved = resize_onto((source, notes), size, canvas, top, left)
        if image is None or target is None:
            image, target = placed, moved
        else:
            rows = slice(max(top, 0), top + size[0])
            columns = slice(max(left, 0), left + size[1])
            image[:, rows, columns] = placed[:, rows, columns]
            target = merge(target, moved)
    assert image is not None
    assert target is not None
    return image, target


def blend(first: DatasetItem, second: DatasetItem) -> DatasetItem:
    """Half of each image (of equal sizes) and the objects of both."""
    mixed = (first[0].to(torch.int16) + second[0].to(torch.int16)) // 2
    return mixed.to(torch.uint8), merge(first[1], second[1])
