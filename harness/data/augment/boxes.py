"""Moving an image with its boxes, masks and keypoints."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Apply a torchvision transform to image, boxes and masks; cut boxes at the edge and drop the emptied ones.

    Raises:
        ValueError: the targets have keypoints, of which a transform does not know which are left and right.
    """
    image, target = sample
    if "keypoints" in target:
        raise ValueError("keypoints cannot be moved by a transform that does not know which of them a flip exchanges")
    parts: list[Any] = [tv_tensors.Image(image), as_boxes(target["boxes"], image)]
    if "masks" in target:
        parts.append(tv_tensors.Mask(target["masks"]))
    moved, boxes, *masks = transform(*parts)
    return tidy(moved.as_subclass(Tensor), boxes, target, *(mask.as_subclass(Tensor) for mask in masks))


def as_boxes(boxes: Tensor, image: Tensor) -> Any:
    """Boxes (n, 4) xyxy px as boxes of ``image`` (3, H, W)."""
    height, width = image.shape[-2:]
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))


def mirrored(sample: DatasetItem, keypoint_mirror: Sequence[int] = ()) -> DatasetItem:
    """The sample with left and right exchanged, keypoints by their names as well: a left eye becomes a right one.

    Args:
        sample: image and target.
        keypoint_mirror: position of each keypoint's twin.
    """
    image, target = sample
    width = image.shape[-1]
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    boxes = as_boxes(torch.stack((width - x2, y1, width - x1, y2), 1), image)
    masks = target["masks"].flip(-1) if "masks" in target else None
    keypoints = None
    if "keypoints" in target:
        keypoints = target["keypoints"].clone()
        labeled = keypoints[..., 2] > 0
        keypoints[..., 0] = torch.where(labeled, width - keypoints[..., 0], keypoints[..., 0])
        keypoints = keypoints[:, list(keypoint_mirror)] if keypoint_mirror else keypoints
    return tidy(image.flip(-1), boxes, target, masks, keypoints)


def tidy(
    image: Tensor, boxes: Any, target: Target, masks: Tensor | None = None, keypoints: Tensor | None = None
) -> DatasetItem:
    """The sample of ``image`` with the transformed boxes, masks and keypoints, row by row those of ``target``.

    Boxes are cut at the image's edges, and objects that the cut (nearly) empties are dropped: so is one whose mask is
    gone. A box that lost nothing stays, however small; so does any rest of a region to ignore. Keypoints outside of the
    image are no longer labeled. ``area`` is the transformed box's.

    Args:
        image: (3, H, W).
        boxes: (n, 4) of this image, as torchvision's BoundingBoxes.
        target: before the transformation.
        masks: (n, H, W) after it, where the target has masks.
        keypoints: (n, P, 3) after it, where the target has keypoints.
    """
    whole = boxes.as_subclass(Tensor)
    cut = functional.clamp_bounding_boxes(boxes).as_subclass(Tensor)
    sides, whole_sides = cut[:, 2:] - cut[:, :2], whole[:, 2:] - whole[:, :2]
    share = sides.prod(dim=1) / whole_sides.prod(dim=1).clamp(min=torch.finfo(sides.dtype).tiny)
    untouched = (sides == whole_sides).all(dim=1)
    telling = (sides >= MIN_SIDE).all(dim=1) & (share >= MIN_SHARE)
    to_ignore = target["iscrowd"] == 1
    kept = (sides > 0).all(dim=1) & (untouched | telling | to_ignore)
    moved: Target = {}
    if masks is not None:
        # Background boxes (label 0) have an empty mask from the start.
        kept &= masks.flatten(1).bool().any(1) | to_ignore | (target["labels"] == 0)
        moved["masks"] = masks[kept]
    if keypoints is not None:
        moved["keypoints"] = _inside(keypoints[kept], *image.shape[-2:])
    rows = {
        key: value[kept]
        for key, value in target.items()
        if key not in ("boxes", "area", "image_id", "masks", "keypoints")
    }
    final = cut[kept]
    area = (final[:, 2:] - final[:, :2]).prod(dim=1)
    return image, {"image_id": target["image_id"], "boxes": final, "area": area, **rows, **moved}


def merge(first: Target, second: Target) -> Target:
    """The objects of both targets; the image id is the first one's."""
    rows = {key: torch.cat([first[key], second[key]]) for key in first if key != "image_id"}
    return {"image_id": first["image_id"], **rows}


def _inside(keypoints: Tensor, height: int, width: int) -> Tensor:
    """Keypoints (n, P, 3) of which those outside of the image are (0, 0, 0): not labeled."""
    x, y, visibility = keypoints.unbind(-1)
    inside = (visibility > 0) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    return keypoints * inside.unsqueeze(-1)
