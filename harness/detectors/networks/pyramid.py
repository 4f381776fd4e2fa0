"""Anchors that remember the pyramid they come from.

torchvision's dense detectors hand their loss the anchors of each image but neither the sizes of the levels nor their
strides (RetinaNet, SSD), though many assigners need both. The anchor generator knows them, and what it returns is
passed on untouched: so it returns a list that knows them too. Nothing is stored in a module between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import truediv
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from harness.core.structures import Candidates


@dataclass(frozen=True)
class Level:
    """One level of the pyramid."""

    height: int  # cells
    width: int
    anchors: int  # per cell
    cell: float  # px of a cell, where its grid is too small to be measured

    def __len__(self) -> int:
        return self.height * self.width * self.anchors


class PyramidAnchors(list[Tensor]):
    """The anchors of a batch, one ``(N, 4)`` per image, level by level; the levels and the sizes of the images."""

    levels: tuple[Level, ...]
    image_sizes: tuple[tuple[int, int], ...]  # (height, width) without padding, px

    def candidates(self, *, stride_is_side: bool = False) -> Candidates:
        """All anchors of the batch as ``(B, N)`` candidates.

        Args:
            stride_is_side: take an anchor's width for its stride, as FCOS does, rather than the distance to the
                neighboring cell. The two differ where the image's size is no multiple of the stride.
        """
        boxes = torch.stack(list(self))
        level = torch.cat([boxes.new_full((len(level),), i, dtype=torch.int64) for i, level in enumerate(self.levels)])
        stride = boxes[0, :, 2] - boxes[0, :, 0] if stride_is_side else self._stride(boxes[0])
        return Candidates(
            boxes=boxes,
            valid=torch.ones_like(boxes[..., 0], dtype=torch.bool),
            level=level,
            stride=stride,
            num_levels=len(self.levels),
            image_sizes=self.image_sizes,
        )

    def _stride(self, boxes: Tensor) -> Tensor:
        """``(N,)`` px to the neighboring cell, measured on the anchors themselves: right for any generator."""
        ends = accumulate(len(level) for level in self.levels)
        return torch.cat(
            [
                self._stride_of(level, boxes[end - len(level) : end])
                for level, end in zip(self.levels, ends, strict=True)
            ]
        )

    @staticmethod
    def _stride_of(level: Level, boxes: Tensor) -> Tensor:
        if level.width > 1:
            step = boxes[level.anchors, 0::2].sum() - boxes[0, 0::2].sum()
        elif level.height > 1:
            step = boxes[level.anchors, 1::2].sum() - boxes[0, 1::2].sum()
        else:
            return boxes.new_full((len(level),), level.cell)
        return (step / 2).expand(len(level))


class PyramidGenerator(nn.Module):
    """Mixed into the class of an anchor generator: the same anchors, as :class:`PyramidAnchors`."""

    def forward(self, image_list: ImageList, feature_maps: Sequence[Tensor]) -> PyramidAnchors:
        """As the generator's own, but never in half precision.

        torchvision's generators take the features' type: under autocast to bfloat16 an anchor beyond 256 px would be
        rounded to whole multiples of 2, beyond 512 px of 4.

        Raises:
            ValueError: the generator's number of anchors does not match the feature maps.
        """
        anchors = PyramidAnchors(super().forward(image_list, full_precision_maps(feature_maps)))
        anchors.image_sizes = tuple(image_list.image_sizes)
        image = image_list.tensors.shape[-2:]
        per_cell = cast(list[int], self.num_anchors_per_location())  # type: ignore[operator]
        anchors.levels = tuple(
            Level(feature.shape[-2], feature.shape[-1], count, max(map(truediv, image, feature.shape[-2:])))
            for feature, count in zip(feature_maps, per_cell, strict=True)
        )
        expected = sum(map(len, anchors.levels))
        if anchors and len(anchors[0]) != expected:
            raise ValueError(
                f"{type(self).__name__} made {len(anchors[0])} anchors, but its levels and num_anchors_per_location() "
                f"say {expected}"
            )
        return anchors


def full_precision_maps(feature_maps: Sequence[Tensor]) -> list[Tensor]:
    """What an anchor generator looks at, shapes, type and device, in at least float32, without a copy of the values."""
    return [_full_precision_like(feature) for feature in feature_maps]


def _full_precision_like(feature: Tensor) -> Tensor:
    dtype = torch.promote_types(feature.dtype, torch.float32)
    return feature if feature.dtype == dtype else feature.new_empty((), dtype=dtype).expand(feature.shape)
