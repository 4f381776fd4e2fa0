"""Scenes for the tests of assigners: those of :mod:`harness.testing`, drawn by hypothesis, and a few by hand."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from harness.core.structures import Candidates, GroundTruth
from harness.testing.assignment_scenes import CLASSES, DTYPES, KINDS, STRIDES, pyramid, scene, truth_of

__all__ = [
    "CLASSES",
    "DTYPES",
    "KINDS",
    "STRIDES",
    "corner_anchors",
    "iou",
    "matchable",
    "numbers",
    "one_object",
    "points",
    "pyramid",
    "scene",
    "scenes",
    "truth_of",
    "usable",
]


def scenes(anchors: bool = False) -> st.SearchStrategy[tuple[GroundTruth, Candidates]]:
    """All kinds, 0, 1 or more objects, 0, 1 or more candidates, every dtype."""
    return st.builds(
        scene,
        seed=st.integers(0, 2**31),
        kind=st.sampled_from(KINDS),
        objects=st.sampled_from((0, 1, 2, 7)),
        count=st.sampled_from((None, None, None, 0, 1, 20)),
        dtype=st.sampled_from(DTYPES),
        anchors=st.just(anchors),
    )


def numbers(boxes: Tensor) -> list[tuple]:
    """The boxes as numpy scalars of at least float32, so that an oracle's arithmetic rounds like the tensors' does."""
    wide = boxes.detach().to(torch.promote_types(boxes.dtype, torch.float32))
    return [tuple(row) for row in wide.numpy()]


def iou(one: tuple, other: tuple) -> float:
    """Intersection over union of two boxes, 0 where the union is empty."""
    width = max(min(one[2], other[2]) - max(one[0], other[0]), type(one[0])(0))
    height = max(min(one[3], other[3]) - max(one[1], other[1]), type(one[0])(0))
    shared = width * height
    union = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return shared / max(union, type(one[0])(1e-6))


def matchable(truth: GroundTruth) -> list[int]:
    """The numbers of the real objects."""
    return [g for g in range(len(truth.boxes)) if truth.valid[g] and not truth.crowd[g]]


def usable(candidates: Candidates) -> list[int]:
    """The numbers of the real candidates."""
    return [n for n in range(len(candidates.boxes)) if candidates.valid[n]]


def corner_anchors(shapes: list[tuple[float, float]], stride: float = 8, columns: int = 16) -> Candidates:
    """Anchors of these (width, height) around ``(i * stride, j * stride)``, as torchvision's generator lays them."""
    center = torch.cartesian_prod(torch.arange(columns) * stride, torch.arange(columns) * stride).flip(-1)
    half = torch.tensor(shapes) / 2
    boxes = torch.cat((center.unsqueeze(1) - half, center.unsqueeze(1) + half), -1).flatten(0, 1)
    level = torch.zeros(len(boxes), dtype=torch.int64)
    return Candidates(boxes, torch.ones(len(boxes), dtype=torch.bool), level, torch.full((len(boxes),), stride))


def points(size: int) -> Candidates:
    """The pyramid of points of a square image."""
    middles = [torch.arange(stride / 2, size, stride) for stride in STRIDES]
    center = torch.cat([torch.cartesian_prod(middle, middle).flip(-1) for middle in middles])
    level = torch.cat([torch.full((len(middle) ** 2,), i) for i, middle in enumerate(middles)])
    stride = torch.tensor(STRIDES, dtype=torch.float32)[level]
    half = stride.unsqueeze(-1) / 2
    boxes = torch.cat((center - half, center + half), -1)
    return Candidates(boxes, torch.ones(len(boxes), dtype=torch.bool), level, stride, len(STRIDES))


def one_object(x: float, y: float, width: float, height: float) -> GroundTruth:
    """An object of class 0 around (x, y)."""
    box = torch.tensor([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]])
    one = torch.ones(1, dtype=torch.bool)
    return GroundTruth(box, torch.zeros(1, dtype=torch.int64), one, ~one)
