"""What is particular to FCOS: points, centre-ness, its coupled head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.core.boxes import centerness
from harness.criterion.stage import Selection
from harness.detectors.equip import equip
from harness.detectors.zoo.fcos import fcos_head, fcos_resnet50_fpn
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from tests.detectors.dense_parity import images, scene

SMALL = {"min_size": 64, "max_size": 96, "score_thresh": 0.0}


@pytest.fixture(scope="module", params=["decoupled", "coupled"])
def tiny(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return tiny_fcos(6, head=request.param, **SMALL)


def test_a_point_is_a_square_of_its_stride() -> None:
    seen: list[Selection] = []
    twin = equip(tiny_fcos(6, min_size=96), observers=[lambda stage, selection: seen.append(selection)])
    twin.train()(images(), scene("ordinary"))
    candidates = seen[0].candidates
    side = candidates.boxes[0, :, 2] - candidates.boxes[0, :, 0]
    assert torch.equal(candidates.stride, side)
    assert sorted(set(side.tolist())) == [8.0, 16.0]


def test_centerness_is_the_papers() -> None:
    box, stride = torch.tensor([0.0, 0.0, 10.0, 20.0]), 4.0
    for x, y in ((5.0, 10.0), (2.0, 10.0), (1.0, 3.0), (9.0, 19.0)):
        left, top, right, bottom = x, y, 10 - x, 20 - y
        expected = (min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)) ** 0.5
        point = torch.tensor([x - stride / 2, y - stride / 2, x + stride / 2, y + stride / 2])
        assert centerness(box, point).item() == pytest.approx(expected, rel=1e-6)


def test_the_least_score_is_that_of_the_score() -> None:
    """torchvision's .2 is of the root of class times centerness; a class alone counts from .05 on, as published."""
    assert fcos_resnet50_fpn(6).score_thresh == 0.2
    assert fcos_resnet50_fpn(6, quality_branch="iou").score_thresh == 0.2
    assert fcos_resnet50_fpn(6, quality_branch="none").score_thresh == 0.05
    assert fcos_resnet50_fpn(6, quality_branch="none", score_thresh=0.3).score_thresh == 0.3


@pytest.mark.parametrize(("x", "y"), [(-3.0, 10.0), (13.0, 25.0), (-1.0, -1.0), (0.0, 10.0)])
def test_centerness_outside_of_the_object_is_zero(x: float, y: float) -> None:
    """Two negative ratios must not make a positive one."""
    assert centerness(torch.tensor([0.0, 0.0, 10.0, 20.0]), torch.tensor([x, y, x, y])).item() == 0.0


def test_coupled_head_has_one_tower_and_trains_alone() -> None:
    """Without equip it is still a torchvision detector."""
    coupled, decoupled = tiny_fcos(6, head="coupled", min_size=96), tiny_fcos(6, min_size=96)
    count = [sum(p.numel() for p in model.head.parameters()) for model in (coupled, decoupled)]
    tower = sum(p.numel() for p in coupled.head.tower.parameters())
    assert count[1] - count[0] == tower > 0
    losses = coupled.train()(images(), scene("ordinary"))
    losses["classification"].backward()
    assert coupled.head.tower[0].weight.grad.abs().sum() > 0


def test_no_side_starts_dead(tiny: nn.Module) -> None:
    """Behind torchvision's ReLU a side that is zero everywhere has no gradient and never learns."""
    with torch.no_grad():
        distances = tiny.head([torch.rand(2, 64, 12, 16), torch.rand(2, 64, 6, 8)])["bbox_regression"]
    assert (distances > 1.0).all()


def test_an_unknown_head_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"head='both' is unknown; choose one of coupled, decoupled"):
        fcos_head("both", 64, 6)


def test_trained_weights_are_not_of_a_coupled_head() -> None:
    with pytest.raises(ValueError, match="of the decoupled head"):
        fcos_resnet50_fpn(6, weights="COCO_V1", head="coupled")
