"""Box geometry against torchvision, against its own definition, and at its edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import ops

from harness.core import boxes as geometry

ALIGNED = ["iou", "giou", "diou", "ciou"]


def random_boxes(count: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    near = 100 * torch.rand(count, 2, generator=generator)
    return torch.cat((near, near + 1 + 60 * torch.rand(count, 2, generator=generator)), -1).to(dtype)


def degenerate() -> Tensor:
    """Without area, inverted, far, covering, and ordinary ones."""
    return torch.tensor(
        [
            [0, 0, 0, 0],
            [10, 10, 10, 40],
            [10, 40, 40, 40],
            [40, 40, 10, 10],
            [1e4, 1e4, 1e4 + 1, 1e4 + 1],
            [-1e4, -1e4, 1e4, 1e4],
            [10, 10, 40, 40],
            [40, 10, 70, 40],
        ],
        dtype=torch.float32,
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (geometry.pairwise_iou, ops.box_iou),
        (geometry.pairwise_giou, ops.generalized_box_iou),
        (geometry.pairwise_diou, ops.distance_box_iou),
        (geometry.pairwise_ciou, ops.complete_box_iou),
    ],
)
def test_pairs_are_those_of_torchvision(ours, theirs) -> None:
    first, second = random_boxes(17, 0), random_boxes(23, 1)
    torch.testing.assert_close(ours(first, second), theirs(first, second), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALIGNED)
def test_pairwise_is_aligned_over_every_pair(name: str) -> None:
    aligned, pairwise = getattr(geometry, f"aligned_{name}"), getattr(geometry, f"pairwise_{name}")
    first, second = random_boxes(3 * 5, 2).view(3, 5, 4), random_boxes(3 * 7, 3).view(3, 7, 4)
    every = pairwise(first, second)
    assert every.shape == (3, 5, 7)
    for image in range(3):
        for o in range(5):
            for c in range(7):
                one = aligned(first[image, o], second[image, c])
                torch.testing.assert_close(every[image, o, c], one, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ALIGNED)
@pytest.mark.parametrize(("objects", "candidates"), [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_nothing_to_compare(name: str, objects: int, candidates: int) -> None:
    pairwise = getattr(geometry, f"pairwise_{name}")
    assert pairwise(random_boxes(objects, 0), random_boxes(candidates, 1)).shape == (objects, candidates)


@pytest.mark.parametrize("name", ALIGNED)
def test_degenerate_boxes_are_finite_in_value_and_gradient(name: str) -> None:
    first = degenerate().repeat_interleave(8, 0).requires_grad_()
    second = degenerate().repeat(8, 1).requires_grad_()
    value = getattr(geometry, f"aligned_{name}")(first, second)
    gradients = torch.autograd.grad(value.sum(), (first, second))
    assert torch.isfinite(value).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    pairwise = getattr(geometry, f"pairwise_{name}")(degenerate(), degenerate())
    torch.testing.assert_close(pairwise.flatten(), value.detach(), rtol=1e-5, atol=1e-5)


def test_a_box_without_area_overlaps_nothing() -> None:
    nothing, around = torch.tensor([20.0, 20.0, 20.0, 20.0]), torch.tensor([10.0, 10.0, 40.0, 40.0])
    assert geometry.aligned_iou(nothing, around) == 0
    assert geometry.aligned_iou(nothing, nothing) == 0
    assert geometry.pairwise_iou(nothing[None], nothing[None]).item() == 0


@pytest.mark.parametrize("gate", [None, 0.5])
def test_identical_boxes_have_complete_iou_one(gate: float | None) -> None:
    boxes = random_boxes(50, 4)
    torch.testing.assert_close(geometry.aligned_ciou(boxes, boxes, gate=gate), torch.ones(50))


def test_ciou_counts_the_aspect_above_its_gate_only() -> None:
    first, second = torch.tensor([0.0, 0.0, 10.0, 10.0]), torch.tensor([0.0, 0.0, 10.0, 14.0])
    diou, ciou = geometry.aligned_diou(first, second), geometry.aligned_ciou(first, second)
    assert ciou < diou
    assert geometry.aligned_ciou(first, second, gate=0.6) == ciou  # IoU is 0.714
    assert geometry.aligned_ciou(first, second, gate=0.8) == diou


side = st.integers(-1600, 1600).map(lambda eighths: eighths / 8)  # a positive area is far above every eps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(side, side, side, side), min_size=2, max_size=2))
def test_bounds_and_symmetry(corners: list[tuple[float, float, float, float]]) -> None:
    first, second = (torch.tensor([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]) for x1, y1, x2, y2 in corners)
    iou, giou = geometry.aligned_iou(first, second), geometry.aligned_giou(first, second)
    diou, ciou = geometry.aligned_diou(first, second), geometry.aligned_ciou(first, second)
    assert 0 <= iou <= 1 + 1e-5
    assert -1 - 1e-5 <= giou <= iou + 1e-5
    assert -1 - 1e-5 <= diou <= iou + 1e-5
    assert -2 - 1e-5 <= ciou <= diou + 1e-5
    for name in ("iou", "giou", "diou", "ciou"):
        compare = getattr(geometry, f"aligned_{name}")
        assert compare(first, second).item() == pytest.approx(compare(second, first).item(), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_inputs_are_left_alone_and_the_type_kept(dtype: torch.dtype) -> None:
    first, second = random_boxes(5, 5, dtype), random_boxes(6, 6, dtype)
    before = first.clone(), second.clone()
    for name in ALIGNED:
        assert getattr(geometry, f"pairwise_{name}")(first, second).dtype == dtype
    assert torch.equal(first, before[0])
    assert torch.equal(second, before[1])


def test_clip_boxes() -> None:
    clipped = geometry.clip_boxes(torch.tensor([[[-5.0, 3.0, 300.0, 400.0]]]), height=100, width=200)
    assert torch.equal(clipped, torch.tensor([[[0.0, 3.0, 200.0, 100.0]]]))


def test_enclosing_sides_and_area() -> None:
    first, second = torch.tensor([0.0, 0.0, 4.0, 3.0]), torch.tensor([2.0, -1.0, 10.0, 2.0])
    width, height = geometry.enclosing_sides(first, second)
    assert (width.item(), height.item()) == (10, 4)
    assert geometry.area(second).item() == 24
    assert geometry.aligned_intersection(first, second).item() == 4
    assert math.isclose(geometry.pairwise_iof(first[None], second[None]).item(), 4 / 12, rel_tol=1e-6)


def test_compiles_without_a_graph_break() -> None:
    first, second = random_boxes(5, 7), random_boxes(6, 8)
    for name in ALIGNED:
        pairwise = getattr(geometry, f"pairwise_{name}")
        torch._dynamo.reset()
        compiled = torch.compile(pairwise, fullgraph=True, backend="eager", dynamic=True)
        assert torch.equal(compiled(first, second), pairwise(first, second))
