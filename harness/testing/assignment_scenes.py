"""Scenes for assigners: small, drawn from a seed, and of every awkward kind.

One kind at a time: ties (everything on a coarse lattice), duplicates, objects without area or outside of the image,
crowd regions, padding anywhere (with nonsense in the padded slots), nothing but padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.core.structures import Candidates, GroundTruth, Predictions

Batch = tuple[GroundTruth, Candidates]

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
    """Boxes, levels and strides: squares of side = stride around the cells' centers, or an anchor of its own each."""
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


def padded_batch(images: Sequence[Batch]) -> Batch:
    """Images of different numbers of objects and candidates in one padded batch, nonsense in the padding."""
    most_objects = max(truth.boxes.shape[0] for truth, _ in images) + 2
    most = max(len(candidates.boxes) for _, candidates in images) + 3

    def stack(tensors: Sequence[Tensor], size: int, value: float) -> Tensor:
        filled = [pad(t, (0, 0) * (t.dim() - 1) + (0, size - len(t)), value=value) for t in tensors]
        return torch.stack(filled)

    truth = GroundTruth(
        boxes=stack([t.boxes for t, _ in images], most_objects, 37.0),
        labels=stack([t.labels for t, _ in images], most_objects, 1),
        valid=stack([t.valid for t, _ in images], most_objects, False),
        crowd=stack([t.crowd for t, _ in images], most_objects, False),
    )
    longest = max((candidates for _, candidates in images), key=lambda c: len(c.boxes))
    assert longest.level is not None
    assert longest.stride is not None
    predictions = [c.predictions for _, c in images if c.predictions is not None]
    candidates = Candidates(
        boxes=stack([c.boxes for _, c in images], most, 21.0),
        valid=stack([c.valid for _, c in images], most, False),
        level=pad(longest.level, (0, most - len(longest.level)), value=1),
        stride=pad(longest.stride, (0, most - len(longest.stride)), value=16.0),
        num_levels=len(STRIDES),
        predictions=Predictions(
            scores=stack([p.scores for p in predictions], most, 0.9),
            boxes=stack([p.boxes for p in predictions], most, 33.0),
        ),
    )
    return truth, candidates
