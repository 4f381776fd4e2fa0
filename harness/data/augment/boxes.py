"""Between a sample and the tv_tensors that torchvision's transforms understand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from harness.data.dataset import DatasetItem, Target

# What a cut leaves of a box below these shows nothing of the object (YOLOv5 and its successors use the same two).
MIN_SIDE = 2.0  # px
MIN_SHARE = 0.1  # of its area


def apply(transform: v2.Transform, sample: DatasetItem) -> DatasetItem:
    """Apply a torchvision transform to image and boxes; cut boxes at the edge and drop the emptied ones."""
    image, target = sample
    moved, boxes = transform(tv_tensors.Image(image), as_boxes(target["boxes"], image))
    return tidy(moved.as_subclass(Tensor), boxes, target)


def as_boxes(boxes: Tensor, image: Tensor) -> Any:
    """Boxes (n, 4) xyxy px as boxes of ``image`` (3, H, W)."""
    height, width = image.shape[-2:]
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))


def tidy(image: Tensor, boxes: Any, target: Target) -> DatasetItem:
    """The sample of ``image`` with the transformed ``boxes``, row by row those of ``target``, cut at the image's edges.

    Boxes that the cut (nearly) empties are dropped. One that lost nothing stays, however small; so does any rest of a
    region to ignore. ``area`` is the transformed box's, as the mask's is not known.
    """
    whole = boxes.as_subclass(Tensor)
    cut = functional.clamp_bounding_boxes(boxes).as_subclass(Tensor)
    sides, whole_sides = cut[:, 2:] - cut[:, :2], whole[:, 2:] - whole[:, :2]
    share = sides.prod(dim=1) / whole_sides.prod(dim=1).clamp(min=torch.finfo(sides.dtype).tiny)
    untouched = (sides == whole_sides).all(dim=1)
    telling = (sides >= MIN_SIDE).all(dim=1) & (share >= MIN_SHARE)
    kept = (sides > 0).all(dim=1) & (untouched | telling | (target["iscrowd"] == 1))
    rows = {key: value[kept] for key, value in target.items() if key not in ("boxes", "area", "image_id")}
    final = cut[kept]
    area = (final[:, 2:] - final[:, :2]).prod(dim=1)
    return image, {"image_id": target["image_id"], "boxes": final, "area": area, **rows}


def merge(first: Target, second: Target) -> Target:
    """The objects of both targets; the image id is the first one's."""
    rows = {key: torch.cat([first[key], second[key]]) for key in first if key != "image_id"}
    return {"image_id": first["image_id"], **rows}
