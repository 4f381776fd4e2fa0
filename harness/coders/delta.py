"""Center offsets and log size ratios: the coding of the R-CNN family (Girshick 2014, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import centers, clip_boxes


class DeltaCoder:
    """Weighted center offsets over the candidate's size and log size ratios, with the values of torchvision's
    ``BoxCoder``.

    Args:
        weights: factors of dx, dy, dw, dh; (10, 10, 5, 5) in RoI heads, (1, 1, 1, 1) in RPN and RetinaNet.
        clip: upper bound of the decoded log size ratio.

    Raises:
        ValueError: not four weights other than 0.
    """

    needs_stride: ClassVar[bool] = False

    def __init__(
        self, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0), clip: float = math.log(1000.0 / 16)
    ) -> None:
        four = len(weights) == 4 and all(weights)
        self.weights = limits.require(four, "weights", weights, "four numbers other than 0")
        self.clip = clip

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` targets dx, dy, dw, dh."""
        size = candidates[..., 2:] - candidates[..., :2]
        center = candidates[..., :2] + 0.5 * size
        target_size = boxes[..., 2:] - boxes[..., :2]
        target_center = boxes[..., :2] + 0.5 * target_size
        wx, wy, ww, wh = self.weights
        (dx, dy), (width, height) = (target_center - center).unbind(-1), size.unbind(-1)
        dw, dh = (target_size / size).log().unbind(-1)
        return torch.stack((wx * dx / width, wy * dy / height, ww * dw, wh * dh), -1)

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` boxes, px."""
        size = candidates[..., 2:] - candidates[..., :2]
        center = candidates[..., :2] + 0.5 * size
        wx, wy, ww, wh = self.weights
        dx, dy, dw, dh = deltas.unbind(-1)
        ratio = torch.stack((dw / ww, dh / wh), -1).clamp(max=self.clip)
        half = 0.5 * ratio.exp() * size
        middle = torch.stack((dx / wx, dy / wy), -1) * size + center
        return torch.cat((middle - half, middle + half), -1)


class StandardizedDeltaCoder:
    """The same deltas, standardised by a mean and a deviation each: mmdetection's ``DeltaXYWHBBoxCoder``.

    It differs from :class:`DeltaCoder` in its means, in clamping the log size ratio on both sides, in the optional
    clamp of the center's shift (YOLOF, section 4), and in clipping the decoded boxes to an image.

    Args:
        target_means: of dx, dy, dw, dh.
        target_stds: of dx, dy, dw, dh, > 0.
        clip_border: whether a ``max_shape`` given to :meth:`decode` clips the boxes.
        add_ctr_clamp: bound the center's shift by ``ctr_clamp`` px; the size ratio is then clamped from above only.
        ctr_clamp: px.
        wh_ratio_clip: the decoded size ratio lies in [wh_ratio_clip, 1 / wh_ratio_clip].

    Raises:
        ValueError: not four deviations above 0, or a ``wh_ratio_clip`` outside (0, 1).
    """

    needs_stride: ClassVar[bool] = False

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip_border: bool = True,
        add_ctr_clamp: bool = False,
        ctr_clamp: float = 32,
        wh_ratio_clip: float = 0.016,
    ) -> None:
        limits.require(len(target_means) == 4, "target_means", target_means, "four numbers")
        deviations = len(target_stds) == 4 and all(std > 0 for std in target_stds)
        limits.require(deviations, "target_stds", target_stds, "four numbers above 0")
        limits.require(0 < wh_ratio_clip < 1, "wh_ratio_clip", wh_ratio_clip, "above 0 and below 1")
        self.means = tuple(target_means)
        self.stds = tuple(target_stds)
        self.clip_border = clip_border
        self.add_ctr_clamp = add_ctr_clamp
        self.ctr_clamp = ctr_clamp
        self.max_ratio = -math.log(wh_ratio_clip)

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        """``(*, 4)`` targets dx, dy, dw, dh."""
        size = candidates[..., 2:] - candidates[..., :2]
        center, target_center = (centers(b) for b in (candidates, boxes))
        shift = (target_center - center) / size
        ratio = ((boxes[..., 2:] - boxes[..., :2]) / size).log()
        columns = (*shift.unbind(-1), *ratio.unbind(-1))
        return torch.stack(
            [(column - mean) / std for column, mean, std in zip(columns, self.means, self.stds, strict=True)], -1
        )

    def decode(self, deltas: Tensor, candidates: Tensor, max_shape: tuple[float, float] | None = None) -> Tensor:
        """``(*, 4)`` boxes, px; clipped to ``max_shape`` (height, width) where one is given."""
        dx, dy, dw, dh = (
            column * std + mean for column, mean, std in zip(deltas.unbind(-1), self.means, self.stds, strict=True)
        )
        size = candidates[..., 2:] - candidates[..., :2]
        shift, ratio = torch.stack((dx, dy), -1) * size, torch.stack((dw, dh), -1)
        if self.add_ctr_clamp:
            shift, ratio = shift.clamp(-self.ctr_clamp, self.ctr_clamp), ratio.clamp(max=self.max_ratio)
        else:
            ratio = ratio.clamp(-self.max_ratio, self.max_ratio)
        middle = centers(candidates) + shift
        half = size * ratio.exp() / 2
        boxes = torch.cat((middle - half, middle + half), -1)
        return boxes if max_shape is None or not self.clip_border else clip_boxes(boxes, *max_shape)
