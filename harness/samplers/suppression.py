"""Boxes that overlap: which survive, and for whom the others stand."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

from harness.boxes import pairwise_iou
from harness.samplers.ranking import order_code


def suppress(boxes: Tensor, priority: Tensor, allowed: Tensor, group: Tensor, iou_thr: float) -> Tensor:
    """``(*, N)`` bool: the allowed boxes that survive greedy NMS within their group of their image.

    All images and groups go through one call, set apart by whole pixels in float64, which leaves every IoU as it was:
    an image's answer depends on nothing else in the batch. Their number is data: a compiled graph breaks here.

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
    meets = allowed & boxes.isfinite().all(-1)
    flat = boxes.double().masked_fill(~meets.unsqueeze(-1), 0).reshape(-1, size, 4)  # without area: IoU 0 with all
    image = torch.arange(flat.shape[0], device=flat.device).unsqueeze(-1)
    place = image * (group.max() + 1) + group.reshape(-1, size)
    step = (flat.amax() - flat.amin()).ceil() + 1
    flat = flat + (place * step).unsqueeze(-1)
    survivors = nms(flat.reshape(-1, 4), order_code(priority).reshape(-1).double(), iou_thr)
    kept = torch.zeros(allowed.numel(), dtype=torch.bool, device=allowed.device)
    return kept.index_fill(0, survivors, True).reshape(allowed.shape) & allowed


@torch.library.custom_op("harness::match_leaders", mutates_args=())
def match_leaders(boxes: torch.Tensor, alive: torch.Tensor, iou_thr: float) -> torch.Tensor:
    """``(*, M)`` int64: for each box, the first survivor of greedy NMS that it overlaps; itself where it survives.

    The groups of PISA (Cao et al. 2020, section 3). An operator of its own, because the number of rounds is data: a
    compiled graph calls it whole. Each round decides all boxes whose earlier neighbours are decided, and the loop ends
    (with one wait for the device a round) when a round changes nothing.

    Args:
        boxes: ``(*, M, 4)`` px, the most important first.
        alive: ``(*, M)`` bool; the others lead themselves and nobody else.
        iou_thr: a box belongs to a survivor whose IoU is at least this.
    """
    size = alive.shape[-1]
    place = torch.arange(size, device=alive.device, dtype=torch.int32)
    earlier = place.unsqueeze(-1) > place  # row: the box, column: the one before it
    meets = (pairwise_iou(boxes, boxes) >= iou_thr) & earlier & alive.unsqueeze(-1) & alive.unsqueeze(-2)
    survives = alive
    while True:
        after = alive & ~(meets & survives.unsqueeze(-2)).any(-1)
        if torch.equal(after, survives):
            break
        survives = after
    if size == 0:
        return alive.long()
    first = torch.where(meets & survives.unsqueeze(-2), place, size).amin(-1)
    return torch.where(first == size, place, first).long()


@match_leaders.register_fake
def _(boxes: torch.Tensor, alive: torch.Tensor, iou_thr: float) -> torch.Tensor:
    return torch.empty_like(alive, dtype=torch.int64)
