"""Box geometry. Boxes are ``(x1, y1, x2, y2)`` in pixels, continuous; ``*`` is any number of leading dimensions.

The ``aligned_*`` functions compare pairs, broadcast and can be differentiated. The ``pairwise_*`` functions compare
every object with every candidate, ``(*, G, N)``, and are for assigners: no gradient. Boxes without area give finite
values everywhere: every denominator is bounded from below by ``eps``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ASPECT = 4 / math.pi**2  # makes the squared difference of two angles in [0, pi/2] a number in [0, 1]


def area(boxes: Tensor) -> Tensor:
    """``(*,)`` area of ``(*, 4)`` boxes, px^2; negative sides are not clamped."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def centers(boxes: Tensor) -> Tensor:
    """``(*, 2)`` centers of ``(*, 4)`` boxes, px."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def centerness(boxes: Tensor, candidates: Tensor) -> Tensor:
    """``(*,)`` in [0, 1]: how central the candidate's center lies in its object (FCOS, Tian 2019, eq. 3).

    0 for a center outside of the object, which FCOS's own assigner never calls positive but others do.
    """
    center = centers(candidates)
    first, last = (center - boxes[..., :2]).clamp(min=0), (boxes[..., 2:] - center).clamp(min=0)
    ratio = torch.minimum(first, last) / torch.maximum(first, last).clamp(min=1e-9)
    return (ratio[..., 0] * ratio[..., 1]).sqrt()


def scaled(boxes: Tensor, scale: float) -> Tensor:
    """``(*, 4)`` boxes with both sides scaled about their center."""
    center, half = centers(boxes), (boxes[..., 2:] - boxes[..., :2]) * 0.5 * scale
    return torch.cat((center - half, center + half), -1)


def clip_boxes(boxes: Tensor, height: float, width: float) -> Tensor:
    """``(*, 4)`` boxes moved into an image of ``height`` x ``width`` px."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), -1)


def aligned_intersection(first: Tensor, second: Tensor) -> Tensor:
    """``(*,)`` overlap area of the pairs ``first (*, 4)`` and ``second (*, 4)``, px^2."""
    a, b = first.unbind(-1), second.unbind(-1)
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp(min=0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp(min=0)
    return width * height


def enclosing_sides(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height ``(*,)`` of the smallest box that holds both, px."""
    a, b = first.unbind(-1), second.unbind(-1)
    width = torch.maximum(a[2], b[2]) - torch.minimum(a[0], b[0])
    return width, torch.maximum(a[3], b[3]) - torch.minimum(a[1], b[1])


def aligned_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*,)`` intersection over union of the pairs ``first (*, 4)`` and ``second (*, 4)``, in [0, 1]."""
    intersection = aligned_intersection(first, second)
    return intersection / (area(first) + area(second) - intersection).clamp(min=eps)


def aligned_giou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*,)`` generalised IoU in (-1, 1]: less the share of the enclosing box that is empty (Rezatofighi 2019)."""
    intersection = aligned_intersection(first, second)
    union = (area(first) + area(second) - intersection).clamp(min=eps)
    width, height = enclosing_sides(first, second)
    enclosure = (width * height).clamp(min=eps)
    return intersection / union - (enclosure - union) / enclosure


def aligned_diou(first: Tensor, second: Tensor, eps: float = 1e-7) -> Tensor:
    """``(*,)`` distance IoU in (-1, 1]: less the squared distance of the centers over the squared diagonal of the
    enclosing box (Zheng 2020, eq. 7)."""
    a, b = first.unbind(-1), second.unbind(-1)
    width, height = enclosing_sides(first, second)
    distance = ((a[0] + a[2] - b[0] - b[2]).square() + (a[1] + a[3] - b[1] - b[3]).square()) / 4
    return aligned_iou(first, second, eps) - distance / (width.square() + height.square()).clamp(min=eps)


def aligned_ciou(first: Tensor, second: Tensor, eps: float = 1e-7, gate: float | None = None) -> Tensor:
    """``(*,)`` complete IoU: DIoU less a penalty on different aspect ratios (Zheng 2020, eq. 8 to 11).

    The trade-off factor of the penalty carries no gradient. Identical boxes have penalty 0 (the paper's quotient is
    0 / 0 there).

    Args:
        first: ``(*, 4)``.
        second: ``(*, 4)``.
        eps: lower bound of every denominator.
        gate: the penalty counts only where the IoU is above this (mmdetection and the paper's later version: 0.5);
            ``None`` counts it everywhere (torchvision, Ultralytics).
    """
    penalty = aspect_penalty(first, second, eps)
    with torch.no_grad():
        iou = aligned_iou(first, second, eps)
        factor = penalty / (1 - iou + penalty).clamp(min=eps)
        if gate is not None:
            factor = factor * (iou > gate)
    return aligned_diou(first, second, eps) - factor * penalty


def aspect_penalty(first: Tensor, second: Tensor, eps: float = 1e-7) -> Tensor:
    """``(*,)`` CIoU's penalty ``v`` in [0, 1] on different aspect ratios (Zheng 2020, eq. 9)."""
    return ASPECT * (_aspect_angle(second, eps) - _aspect_angle(first, eps)).square()


def pairwise_intersection(objects: Tensor, candidates: Tensor) -> Tensor:
    """``(*, G, N)`` overlap area of ``objects (*, G, 4)`` and ``candidates (*, N, 4)``, px^2."""
    o, c = objects.unsqueeze(-2).unbind(-1), candidates.unsqueeze(-3).unbind(-1)
    # In place: (*, G, N) is the largest thing an assigner holds, and allocating it costs more than the arithmetic.
    width = torch.minimum(o[2], c[2]).sub_(torch.maximum(o[0], c[0])).clamp_(min=0)
    height = torch.minimum(o[3], c[3]).sub_(torch.maximum(o[1], c[1])).clamp_(min=0)
    return width.mul_(height)


def pairwise_iou(objects: Tensor, candidates: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*, G, N)`` intersection over union in [0, 1]; 0 where the union is 0. ``eps`` bounds the union from below."""
    intersection = pairwise_intersection(objects, candidates)
    union = (area(objects).unsqueeze(-1) + area(candidates).unsqueeze(-2)).sub_(intersection).clamp_(min=eps)
    return intersection.div_(union)


def pairwise_iof(objects: Tensor, candidates: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*, G, N)`` intersection over the area of ``objects`` ("foreground"); 0 where that area is 0."""
    return pairwise_intersection(objects, candidates).div_(area(objects).clamp(min=eps).unsqueeze(-1))


def pairwise_giou(objects: Tensor, candidates: Tensor, eps: float = 1e-6) -> Tensor:
    """``(*, G, N)`` generalised IoU of :func:`aligned_giou`."""
    return aligned_giou(objects.unsqueeze(-2), candidates.unsqueeze(-3), eps)


def pairwise_diou(objects: Tensor, candidates: Tensor, eps: float = 1e-7) -> Tensor:
    """``(*, G, N)`` distance IoU of :func:`aligned_diou`."""
    return aligned_diou(objects.unsqueeze(-2), candidates.unsqueeze(-3), eps)


def pairwise_ciou(objects: Tensor, candidates: Tensor, eps: float = 1e-7, gate: float | None = None) -> Tensor:
    """``(*, G, N)`` complete IoU of :func:`aligned_ciou`."""
    return aligned_ciou(objects.unsqueeze(-2), candidates.unsqueeze(-3), eps, gate)


def _aspect_angle(boxes: Tensor, eps: float) -> Tensor:
    return torch.atan((boxes[..., 2] - boxes[..., 0]) / (boxes[..., 3] - boxes[..., 1]).clamp(min=eps))
