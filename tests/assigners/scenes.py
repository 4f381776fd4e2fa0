"""Scenes for the tests of assigners: small, drawn from a seed, and of every awkward kind.

One kind at a time: ties (everything on a coarse lattice), duplicates, objects without area or outside of the image,
crowd regions, padding anywhere (with nonsense in the padded slots), nothing but padding.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from harness.core.structures import Candidates, GroundTruth, Predictions

KINDS = ("plain", "ties", "duplicates", "no_area", "outside", "crowd", "padded", "all_padded")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)
WIDTH, HEIGHT = 64, 48
STRIDES = (8, 16, 32)
CLASSES = 3


def scene(
    seed: int,
    kind: str = "plain",
    objects: int = 4,
    count: int | None = None,
    dtype: torch.dtype = torch.float32,
    anchors: bool = False,
) -> tuple[GroundTruth, Candidates]:
    """One image of ``objects`` objects; the first ``count`` candidates of a pyramid of points, or of ``anchors``."""
    random = torch.Generator().manual_seed(seed)
    boxes, level, stride = pyramid(random, anchors, lattice=kind == "ties")
    boxes, level, stride = boxes[:count], level[:count], stride[:count]
    valid = torch.ones(len(boxes), dtype=torch.bool)
    if kind == "padded":
        valid = torch.rand(len(boxes), generator=random) < 0.8
        boxes[~valid] = torch.rand(int((~valid).sum()), 4, generator=random) * 90
    elif kind == "all_padded":
        valid[:] = False
    noise = torch.randn(boxes.shape, generator=random) * stride.unsqueeze(-1) / 4
    predictions = Predictions(
        scores=torch.rand(len(boxes), CLASSES, generator=random).to(dtype), boxes=(boxes + noise).to(dtype)
    )
    candidates = Candidates(boxes.to(dtype), valid, level, stride.to(dtype), len(STRIDES), predictions)
    return truth_of(random, kind, objects, dtype), candidates


def truth_of(random: torch.Generator, kind: str, objects: int, dtype: torch.dtype) -> GroundTruth:
    center = torch.rand(objects, 2, generator=random) * torch.tensor([WIDTH, HEIGHT])
    size = 4 + torch.rand(objects, 2, generator=random) ** 2 * 50
    flags = torch.rand(objects, generator=random)
    if kind == "outside":
        center = torch.where((flags < 0.5).unsqueeze(-1), center + 200, center - 20)
    boxes = torch.cat((center - size / 2, center + size / 2), -1)
    if kind == "ties":
        boxes = (boxes / 4).round() * 4
    elif kind == "duplicates" and objects:
        boxes = boxes[torch.randint(0, (objects + 1) // 2, (objects,), generator=random)]
    elif kind == "no_area":
        boxes[flags < 0.5, 2] = boxes[flags < 0.5, 0]
    valid = (flags < 0.7) | torch.tensor(kind != "padded")
    if kind == "all_padded":
        valid = torch.zeros(objects, dtype=torch.bool)
    return GroundTruth(
        boxes=boxes.to(dtype),
        labels=torch.randint(0, CLASSES, (objects,), generator=random),
        valid=valid,
        crowd=(flags < 0.4) & torch.tensor(kind == "crowd"),
    )


def pyramid(random: torch.Generator, anchors: bool, lattice: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, levels and strides: squares of side = stride around the cells' centres, or an anchor of its own each."""
    boxes, levels, strides = [], [], []
    for level, stride in enumerate(STRIDES):
        rows = torch.arange(max(1, HEIGHT // stride)) * stride + stride / 2
        columns = torch.arange(WIDTH // stride) * stride + stride / 2
        center = torch.cartesian_prod(rows, columns).flip(-1)
        half = torch.full_like(center, stride / 2)
        if anchors:
            half = half * (0.6 + 2 * torch.rand(center.shape, generator=random))
        if anchors and lattice:
            half = (half / 4).round().clamp(min=1) * 4
        boxes.append(torch.cat((center - half, center + half), -1))
        levels.append(torch.full((len(center),), level))
        strides.append(torch.full((len(center),), float(stride)))
    return torch.cat(boxes), torch.cat(levels), torch.cat(strides)


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
