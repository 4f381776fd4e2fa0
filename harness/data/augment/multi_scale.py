"""Large scale jitter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from harness.core import limits
from harness.data.augment.boxes import as_boxes, tidy
from harness.data.augment.flip import Flip
from harness.data.augment.protocol import Surroundings
from harness.data.dataset import DatasetItem

GRAY = 114  # of 255: the padding that the field uses, near the mean of natural images


class MultiScale:
    """Resize by a random factor, then crop or pad at a random place to the size that the image had, and flip.

    "Large scale jitter" of Ghiasi et al., "Simple Copy-Paste", CVPR 2021, section 3, on a canvas of the image's own
    size. A plain resize would be undone by the detector's own one.

    Args:
        scale: range of the factor, log-uniform, within 0.05 to 10.
        flip: probability.

    Raises:
        ValueError: a value out of its range.
    """

    def __init__(self, scale: Sequence[float] = (0.5, 1.6), flip: float = 0.5) -> None:
        self.scale = limits.interval("scale", scale, 0.05, 10)
        self.flip = Flip(limits.between("flip", flip, 0, 1))

    def __call__(self, sample: DatasetItem, around: Surroundings) -> DatasetItem:
        height, width = sample[0].shape[-2:]
        return self.flip(rescale(sample, self.scale, (height, width)), around)


def rescale(sample: DatasetItem, scale: tuple[float, float], canvas: tuple[int, int]) -> DatasetItem:
    """Resize a sample by a random factor and put it, cropped or padded at random, on a canvas of (height, width)."""
    image = sample[0]
    factor = math.exp(uniform(math.log(scale[0]), math.log(scale[1])))
    size = [max(1, round(side * factor)) for side in image.shape[-2:]]
    top, left = (random_offset(side, room) for side, room in zip(size, canvas, strict=True))
    return resize_onto(sample, size, canvas, top, left)


def resize_onto(sample: DatasetItem, size: list[int], canvas: tuple[int, int], top: int, left: int) -> DatasetItem:
    """Resize a sample to ``size`` and put it with its corner at (top, left) on a canvas of (height, width)."""
    image, target = sample
    # torch's antialiased resize of bytes fails where a single pixel is left (2.14).
    source = image.float() if size == [1, 1] else image
    resized = functional.resize(tv_tensors.Image(source), size, antialias=True).as_subclass(Tensor).to(image.dtype)
    placed = place(resized, canvas, top, left)
    shift = torch.tensor([left, top, left, top])
    boxes = functional.resize(as_boxes(target["boxes"], image), size).as_subclass(Tensor) + shift
    masks = keypoints = None
    if "masks" in target:
        scaled = functional.resize(tv_tensors.Mask(target["masks"]), size).as_subclass(Tensor)
        masks = place(scaled, canvas, top, left, fill=0)
    if "keypoints" in target:
        ratio = torch.tensor([size[1] / image.shape[-1], size[0] / image.shape[-2], 1.0])
        keypoints = target["keypoints"] * ratio + torch.tensor([left, top, 0])
    return tidy(placed, as_boxes(boxes, placed), target, masks, keypoints)


def place(image: Tensor, canvas: tuple[int, int], top: int, left: int, fill: int = GRAY) -> Tensor:
    """``image`` (C, h, w) on ``fill`` of (height, width), its corner at (top, left); what lies outside is cropped."""
    height, width = image.shape[-2:]
    result = image.new_full((len(image), *canvas), fill)
    rows = slice(max(top, 0), max(min(top + height, canvas[0]), 0))
    columns = slice(max(left, 0), max(min(left + width, canvas[1]), 0))
    result[:, rows, columns] = image[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return result


def uniform(low: float, high: float) -> float:
    """One number of the sample's stream."""
    return low + (high - low) * float(torch.rand(()))


def random_offset(side: int, room: int) -> int:
    """Where a side starts in (or, if negative, before) the room it is to fill or to fit into."""
    low, high = sorted((0, room - side))
    return int(torch.randint(low, high + 1, ()))
