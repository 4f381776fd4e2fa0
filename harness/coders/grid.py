"""Coders whose numbers are relative to the cell of a grid: they need the stride of each candidate.

``candidates`` are ``(*, 5)`` here: a box, around the center of its cell, and the stride of its level, px.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import centers


class StrideDistanceCoder:
    """Left, top, right, bottom distances from the candidate's center, in strides (GFL, Li 2020, section 3; YOLOv8).

    The same for points and for anchors of any shape: only the center and the stride count.

    Args:
        max_distance: targets lie in [0, max_distance] (the last bin of a distribution, less a margin that keeps the
            upper one of two neighboring bins in range); ``None`` bounds nothing.

    Raises:
        ValueError: ``max_distance`` not above 0.
    """

    needs_stride: ClassVar[bool] = True

    def __init__(self, max_distance: float | None = None) -> None:
        self.max_distance = limits.optional(limits.above, "max_distance", max_distance, 0)

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` targets left, top, right, bottom, in strides."""
        center, stride = centers(candidates[..., :4]), candidates[..., 4:]
        distance = torch.cat((center - boxes[..., :2], boxes[..., 2:] - center), -1) / stride
        return distance if self.max_distance is None else distance.clamp(0, self.max_distance)

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` boxes, px."""
        center, distance = centers(candidates[..., :4]), deltas * candidates[..., 4:]
        return torch.cat((center - distance[..., :2], center + distance[..., 2:]), -1)


class YOLOv3Coder:
    """Place of the center in its cell, and log ratios of the sides to the anchor's (YOLOv3, Redmon 2018, section 2.1).

    ``decode`` takes logits of the place in the cell; ``encode`` returns the place itself, in [0, 1], so that a binary
    cross entropy compares the two.
    """

    needs_stride: ClassVar[bool] = True

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` x and y in the cell, log ratio of width and of height."""
        anchor, stride = candidates[..., :4], candidates[..., 4:]
        place = (centers(boxes) - centers(anchor)) / stride + 0.5
        ratio = ((boxes[..., 2:] - boxes[..., :2]) / (anchor[..., 2:] - anchor[..., :2])).log()
        return torch.cat((place, ratio), -1)

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` boxes, px."""
        anchor, stride = candidates[..., :4], candidates[..., 4:]
        center = centers(anchor) + (deltas[..., :2].sigmoid() - 0.5) * stride
        half = (anchor[..., 2:] - anchor[..., :2]) * deltas[..., 2:].clamp(max=math.log(1000.0 / 16)).exp() / 2
        return torch.cat((center - half, center + half), -1)


class YOLOv5Coder:
    """Bounded numbers: the center reaches half a cell beyond its own cell, the sides four times the anchor's (YOLOv5,
    YOLOv7): ``2 sigmoid(t) - 1/2`` cells and ``(2 sigmoid(t))^2`` anchors."""

    needs_stride: ClassVar[bool] = True

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` logits of the object, bounded where it is out of reach."""
        anchor, stride = candidates[..., :4], candidates[..., 4:]
        place = (centers(boxes) - centers(anchor)) / stride + 1  # of two cells
        ratio = ((boxes[..., 2:] - boxes[..., :2]) / (anchor[..., 2:] - anchor[..., :2])).sqrt()
        return (torch.cat((place, ratio), -1) / 2).logit(eps=1e-4)

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` boxes, px."""
        anchor, stride = candidates[..., :4], candidates[..., 4:]
        share = deltas.sigmoid() * 2
        center = centers(anchor) + (share[..., :2] - 1) * stride
        half = (anchor[..., 2:] - anchor[..., :2]) * share[..., 2:].square() / 2
        return torch.cat((center - half, center + half), -1)
