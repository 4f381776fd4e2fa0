"""Box coding: how a head's four numbers become a box, and a ground-truth box becomes their targets."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor


class Coder(Protocol):
    """Turns ``(*, 4)`` boxes into ``(*, 4)`` deltas relative to ``(*, 4)`` candidate boxes, and back."""

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor: ...

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor: ...


class DeltaCoder:
    """Centre offsets over the candidate's size and log size ratios (R-CNN, Girshick 2014, appendix C), weighted.

    The values of torchvision's ``BoxCoder``, for any leading dimensions and without its copies of the weights to the
    device in every step (each of them blocks a GPU).

    Args:
        weights: factors of dx, dy, dw, dh; (10, 10, 5, 5) in RoI heads, (1, 1, 1, 1) in RPN and RetinaNet.
        clip: upper bound of the decoded log size ratio.
    """

    def __init__(
        self, weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0), clip: float = math.log(1000.0 / 16)
    ) -> None:
        self.weights = weights
        self.clip = clip

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor:
        size = candidates[..., 2:] - candidates[..., :2]
        center = candidates[..., :2] + 0.5 * size
        target_size = boxes[..., 2:] - boxes[..., :2]
        target_center = boxes[..., :2] + 0.5 * target_size
        wx, wy, ww, wh = self.weights
        offset = (target_center - center) / size
        ratio = (target_size / size).log()
        return torch.stack((wx * offset[..., 0], wy * offset[..., 1], ww * ratio[..., 0], wh * ratio[..., 1]), -1)

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor:
        size = candidates[..., 2:] - candidates[..., :2]
        center = candidates[..., :2] + 0.5 * size
        wx, wy, ww, wh = self.weights
        dx, dy, dw, dh = deltas.unbind(-1)
        ratio = torch.stack((dw / ww, dh / wh), -1).clamp(max=self.clip)
        half = 0.5 * ratio.exp() * size
        middle = torch.stack((dx / wx, dy / wy), -1) * size + center
        return torch.cat((middle - half, middle + half), -1)
