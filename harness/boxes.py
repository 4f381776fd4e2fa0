"""Box geometry. Boxes are ``(x1, y1, x2, y2)`` in pixels, continuous; ``*`` is any number of leading dimensions."""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """``(*,)`` area of ``(*, 4)`` boxes, px^2; negative sides are not clamped."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def pairwise_intersection(objects: Tensor, candidates: Tensor) -> Tensor:
    """``(*, G, N)`` overlap area of ``objects (*, G, 4)`` and ``candidates (*, N, 4)``, px^2."""
    o, c = objects.unsqueeze(-2).unbind(-1), candidates.unsqueeze(-3).unbind(-1)
    width = (torch.minimum(o[2], c[2]) - torch.maximum(o[0], c[0])).clamp_(min=0)
    height = (torch.minimum(o[3], c[3]) - torch.maximum(o[1], c[1])).clamp_(min=0)
    return width.mul_(height)


def pairwise_iou(objects: Tensor, candidates: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*, G, N)`` intersection over union in [0, 1]; 0 where the union is 0. ``eps`` bounds the union from below."""
    intersection = pairwise_intersection(objects, candidates)
    union = (area(objects).unsqueeze(-1) + area(candidates).unsqueeze(-2)).sub_(intersection).clamp_(min=eps)
    return intersection.div_(union)


def pairwise_iof(objects: Tensor, candidates: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*, G, N)`` intersection over the area of ``objects`` ("foreground"); 0 where that area is 0."""
    return pairwise_intersection(objects, candidates) / area(objects).clamp(min=eps).unsqueeze(-1)


def aligned_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*,)`` intersection over union of the pairs ``first (*, 4)`` and ``second (*, 4)``, in [0, 1]."""
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    return intersection / (area(first) + area(second) - intersection).clamp(min=eps)
