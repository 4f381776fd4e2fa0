"""Greedy non-maximum suppression, and which kept box suppressed each removed one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import nms

from harness.core.boxes import pairwise_iou
from harness.core.precision import double_precision
from harness.core.topk import order_code


def suppress(boxes: Tensor, priority: Tensor, allowed: Tensor, group: Tensor, iou_thr: float) -> Tensor:
    """``(*, N)`` bool: the allowed boxes that survive greedy NMS within their group of their image.

    Image by image, because NMS costs the square of the boxes that it is given (measured on a CPU: 16 images of 2,000
    in one call, set apart by an offset, take ten times as long). The number of survivors is data: a compiled graph
    breaks here, and the host waits for the device.

    Args:
        boxes: ``(*, N, 4)`` px; one that is not finite meets no other.
        priority: ``(*, N)``, the larger survives; the lower index in a tie, NaN last.
        allowed: ``(*, N)`` bool; the others neither survive nor suppress.
        group: ``(*, N)`` int64 >= 0; boxes of different groups do not meet.
        iou_thr: a box is suppressed by a survivor with a larger IoU.
    """
    if allowed.numel() == 0:
        return allowed
    size = allowed.shape[-1]
    finite = boxes.isfinite().all(-1)
    kept = allowed & ~finite
    rows = kept.view(-1, size)
    boxes, code = boxes.reshape(-1, size, 4), order_code(priority).reshape(-1, size)
    group, meets = group.reshape(-1, size), (allowed & finite).reshape(-1, size)
    for image, row in enumerate(rows):
        index = meets[image].nonzero().squeeze(-1)
        if len(index):
            survivors = _survivors(boxes[image, index], code[image, index], group[image, index], iou_thr)
            row[index[survivors]] = True
    return kept


def _survivors(boxes: Tensor, code: Tensor, group: Tensor, iou_thr: float) -> Tensor:
    """Indices of the survivors among ``boxes (M, 4)`` with int32 ``code (M,)``, M > 0, the best first."""
    # Groups are set apart by whole pixels in float64, which leaves every IoU as it was.
    boxes = double_precision(boxes)
    step = (boxes.amax() - boxes.amin()).ceil() + 1
    survivors: Tensor = nms(boxes + (group * step).unsqueeze(-1), double_precision(code), iou_thr)
    return survivors


@torch.library.custom_op("harness::match_leaders", mutates_args=())
def match_leaders(boxes: torch.Tensor, alive: torch.Tensor, iou_thr: float) -> torch.Tensor:
    """``(*, M)`` int64: for each box, the first survivor of greedy NMS that it overlaps; itself where it survives.

    The groups of PISA (Cao et al. 2020, section 3). An operator of its own: how many boxes are alive and survive is
    data, for which the host waits, but a compiled graph can call it whole.

    Args:
        boxes: ``(*, M, 4)`` px, the most important first, those alive before the others.
        alive: ``(*, M)`` bool; the others lead themselves and nobody else.
        iou_thr: a box belongs to a survivor whose IoU is at least this.
    """
    size = alive.shape[-1]
    leader = torch.arange(size, device=alive.device).expand(alive.shape).clone()
    if alive.numel() == 0:
        return leader
    for row, image, mask in zip(leader.view(-1, size), boxes.reshape(-1, size, 4), alive.view(-1, size), strict=True):
        if count := int(mask.count_nonzero()):
            row[:count] = _first_leaders(double_precision(image[:count]), iou_thr)
    return leader


def _first_leaders(boxes: Tensor, iou_thr: float) -> Tensor:
    """``(M,)`` int64 for ``boxes (M, 4)`` float64, M > 0, the most important first."""
    place = torch.arange(len(boxes), device=boxes.device)
    # NMS suppresses above its threshold, here a box belongs to a survivor at the threshold, too.
    below = math.nextafter(iou_thr, -math.inf)
    survivors = nms(boxes, -double_precision(place), below).sort().values
    overlap = pairwise_iou(boxes, boxes[survivors]) > below
    first = survivors[overlap.to(torch.uint8).argmax(-1)]
    return torch.where(overlap.any(-1), first, place)  # a box without area overlaps nothing, not even itself


@match_leaders.register_fake
def _(boxes: torch.Tensor, alive: torch.Tensor, iou_thr: float) -> torch.Tensor:
    return torch.empty_like(alive, dtype=torch.int64)
