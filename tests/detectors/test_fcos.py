"""torchvision's FCOS, equipped."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import detection

from harness.criterion import Selection
from harness.detectors.equip import equip
from harness.detectors.fcos import centerness
from harness.detectors.fcos_models import fcos_head, fcos_resnet50_fpn
from harness.detectors.tiny_fcos import tiny_fcos
from tests.detectors.dense_parity import (
    SCENES,
    assert_same_training,
    assert_same_training_in_doubles,
    assert_twin_is_the_host,
    images,
    scene,
)

SMALL = {"min_size": 64, "max_size": 96, "score_thresh": 0.0}


@pytest.fixture(scope="module")
def host() -> nn.Module:
    torch.manual_seed(0)
    return fcos_resnet50_fpn(6, **SMALL)


@pytest.fixture(scope="module", params=["decoupled", "coupled"])
def tiny(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return tiny_fcos(6, head=request.param, **SMALL)


def test_losses_and_gradients_are_torchvisions(host: nn.Module) -> None:
    assert_same_training(host, equip(host), images(), scene("ordinary"))


@pytest.mark.slow
def test_losses_and_gradients_are_torchvisions_in_doubles(host: nn.Module) -> None:
    assert_same_training_in_doubles(host, images(), scene("one without an object"))


@pytest.mark.parametrize("kind", SCENES)
def test_losses_and_gradients_of_the_tiny_one_are_torchvisions(tiny: nn.Module, kind: str) -> None:
    assert_same_training(tiny, equip(tiny), images(), scene(kind))
    assert_same_training_in_doubles(tiny, images(), scene(kind))


def test_twin_is_the_host(host: nn.Module) -> None:
    assert_twin_is_the_host(host, images())


def test_tiny_twin_is_the_host(tiny: nn.Module) -> None:
    assert_twin_is_the_host(tiny, images())


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


def test_checkpoint_of_another_number_of_classes_keeps_all_but_the_predictor(tmp_path: object) -> None:
    torch.manual_seed(0)
    trained = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    path = f"{tmp_path}/fcos.pt"
    torch.save({"model": trained.state_dict()}, path)
    model = fcos_resnet50_fpn(6, weights=path)
    assert model.head.classification_head.num_classes == 6
    state = model.state_dict()
    changed = {
        key
        for key, value in trained.state_dict().items()
        if value.shape != state[key].shape or not torch.equal(value, state[key])
    }
    assert changed == {"head.classification_head.cls_logits.weight", "head.classification_head.cls_logits.bias"}
