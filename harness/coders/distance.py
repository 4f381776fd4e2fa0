"""Distances from a point to the four sides: the coding of anchor-free heads (FCOS, Tian 2019, eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import centers, clip_boxes


class LinearCoder:
    """Left, top, right, bottom distances from the candidate's center: the values of torchvision's ``BoxLinearCoder``.

    Args:
        normalize_by_size: divide them by the candidate's width or height (a point's: its stride).
    """

    needs_stride: ClassVar[bool] = False

    def __init__(self, normalize_by_size: bool = True) -> None:
        self.normalize_by_size = normalize_by_size

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` targets left, top, right, bottom."""
        center = centers(candidates)
        distance = torch.cat((center - boxes[..., :2], boxes[..., 2:] - center), -1)
        return distance / _sizes(candidates) if self.normalize_by_size else distance

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` boxes, px."""
        center = centers(candidates)
        distance = deltas * _sizes(candidates) if self.normalize_by_size else deltas
        return torch.cat((center - distance[..., :2], center + distance[..., 2:]), -1)


class DistancePointCoder:
    """Left, top, right, bottom distances from the candidate's center, px: mmdetection's ``DistancePointBBoxCoder``.

    It differs from :class:`LinearCoder` in bounding the targets and in clipping the decoded boxes to an image.

    Args:
        clip_border: whether a ``max_shape`` given to :meth:`decode` clips the boxes.
        max_dis: targets lie in [0, max_dis - eps] (a distribution over bins ends there); ``None`` bounds nothing.
        eps: see ``max_dis``.

    Raises:
        ValueError: a ``max_dis`` of at most ``eps``.
    """

    needs_stride: ClassVar[bool] = False

    def __init__(self, clip_border: bool = True, max_dis: float | None = None, eps: float = 0.1) -> None:
        self.clip_border = clip_border
        self.max_dis = limits.require(max_dis is None or max_dis > eps, "max_dis", max_dis, f"above eps={eps}, or null")
        self.eps = eps

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` targets left, top, right, bottom, px."""
        center = centers(candidates)
        distance = torch.cat((center - boxes[..., :2], boxes[..., 2:] - center), -1)
        return distance if self.max_dis is None else distance.clamp(0, self.max_dis - self.eps)

    def decode(self, deltas: Tensor, candidates: Tensor, max_shape: tuple[float, float] | None = None) -> Tensor:
        """``(*, 4)`` boxes, px; clipped to ``max_shape`` (height, width) where one is given."""
        center = centers(candidates)
        boxes = torch.cat((center - deltas[..., :2], center + deltas[..., 2:]), -1)
        return boxes if max_shape is None or not self.clip_border else clip_boxes(boxes, *max_shape)


class TBLRCoder:
    """Top, bottom, left, right distances over the candidate's height and width, then over a normalizer: mmdetection's
    ``TBLRBBoxCoder`` (FSAF, Zhu 2019, section 3.2).

    Args:
        normalizer: one number or one per side in this order, other than 0.
        clip_border: whether a ``max_shape`` given to :meth:`decode` clips the boxes.

    Raises:
        ValueError: a normalizer that is neither one number nor four, or 0.
    """

    needs_stride: ClassVar[bool] = False

    def __init__(self, normalizer: float | Sequence[float] = 4.0, clip_border: bool = True) -> None:
        sides = tuple(normalizer) if isinstance(normalizer, Sequence) else (normalizer,) * 4
        four = len(sides) == 4 and all(sides)
        limits.require(four, "normalizer", normalizer, "one number or four, none of them 0")
        self.sides = sides
        self.clip_border = clip_border

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` targets top, bottom, left, right."""
        x, y = centers(candidates).unbind(-1)
        width, height = (candidates[..., 2:] - candidates[..., :2]).unbind(-1)
        x1, y1, x2, y2 = boxes.unbind(-1)
        top, bottom, left, right = self.sides
        return torch.stack(
            ((y - y1) / height / top, (y2 - y) / height / bottom, (x - x1) / width / left, (x2 - x) / width / right), -1
        )

    def decode(self, deltas: Tensor, candidates: Tensor, max_shape: tuple[float, float] | None = None) -> Tensor:
        """``(*, 4)`` boxes, px; clipped to ``max_shape`` (height, width) where one is given."""
        x, y = centers(candidates).unbind(-1)
        width, height = (candidates[..., 2:] - candidates[..., :2]).unbind(-1)
        top, bottom, left, right = (d * side for d, side in zip(deltas.unbind(-1), self.sides, strict=True))
        boxes = torch.stack((x - left * width, y - top * height, x + right * width, y + bottom * height), -1)
        return boxes if max_shape is None or not self.clip_border else clip_boxes(boxes, *max_shape)


def _sizes(candidates: Tensor) -> Tensor:
    """``(*, 4)`` width, height, width, height."""
    size = candidates[..., 2:] - candidates[..., :2]
    return torch.cat((size, size), -1)
