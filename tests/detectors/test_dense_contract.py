"""What holds for every dense detector of torchvision, equipped: it is the host, and trains as the host does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG

from harness.detectors.equip import equip, family_of
from harness.detectors.zoo.fcos import fcos_resnet50_fpn
from harness.detectors.zoo.retinanet import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from harness.detectors.zoo.ssd import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.detectors.zoo.tiny_ssd import tiny_ssd
from tests.detectors.dense_parity import (
    SCENES,
    assert_same_training,
    assert_same_training_in_doubles,
    assert_twin_is_the_host,
    images,
    scene,
)

SMALL = {"min_size": 64, "max_size": 96}
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    builder.__name__: builder
    for builder in (
        fcos_resnet50_fpn,
        retinanet_resnet50_fpn,
        retinanet_resnet50_fpn_v2,
        ssd300_vgg16,
        ssdlite320_mobilenet_v3_large,
    )
}
IN_ONE_SIZE = ("ssd300_vgg16", "ssdlite320_mobilenet_v3_large")
TINY: dict[str, Callable[[], nn.Module]] = {
    "tiny_fcos": partial(tiny_fcos, 6, **SMALL, score_thresh=0.0),
    "tiny_fcos, coupled": partial(tiny_fcos, 6, **SMALL, score_thresh=0.0, head="coupled"),
    "tiny_retinanet": partial(tiny_retinanet, 6, min_size=96, max_size=160, score_thresh=0.0),
    "tiny_ssd": partial(tiny_ssd, 6, score_thresh=0.0),
}
# The weights of a trained detector that a fresh predictor of other classes replaces: a last layer, or an SSD's head.
PREDICTORS = {
    "fcos_resnet50_fpn": "head.classification_head.cls_logits.",
    "retinanet_resnet50_fpn": "head.classification_head.cls_logits.",
    "ssd300_vgg16": "head.classification_head.",
    "ssdlite320_mobilenet_v3_large": "head.classification_head.",
}


def built(name: str) -> nn.Module:
    """The named detector of five classes, for small images where it takes them."""
    torch.manual_seed(0)
    return BUILDERS[name](6, score_thresh=0.0, **({} if name in IN_ONE_SIZE else SMALL))


@pytest.fixture(scope="module", params=BUILDERS)
def host(request: pytest.FixtureRequest) -> nn.Module:
    return built(request.param)


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return TINY[request.param]()


def test_losses_and_gradients_are_torchvisions(host: nn.Module) -> None:
    count = 1 if isinstance(host.backbone, SSDFeatureExtractorVGG) else 2  # BatchNorm asks for two, time for one
    assert_same_training(host, equip(host), images()[:count], scene("ordinary")[:count])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUILDERS if name not in IN_ONE_SIZE])
def test_losses_and_gradients_are_torchvisions_in_doubles(name: str) -> None:
    assert_same_training_in_doubles(built(name), images(), scene("one without an object"))


@pytest.mark.parametrize("kind", SCENES)
def test_losses_and_gradients_of_the_tiny_one_are_torchvisions(tiny: nn.Module, kind: str) -> None:
    assert_same_training(tiny, equip(tiny), images(), scene(kind))
    assert_same_training_in_doubles(tiny, images(), scene(kind))


def test_twin_is_the_host(host: nn.Module) -> None:
    assert_twin_is_the_host(host, images())


def test_tiny_twin_is_the_host(tiny: nn.Module) -> None:
    assert_twin_is_the_host(tiny, images())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "ssd300_vgg16" else ()) for name in PREDICTORS]
)
def test_checkpoint_of_another_number_of_classes_keeps_all_but_the_predictor(name: str, tmp_path: Path) -> None:
    trained = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4).state_dict()
    torch.save({"model": trained}, tmp_path / "trained.pt")
    model = BUILDERS[name](6, weights=str(tmp_path / "trained.pt"))
    assert family_of(model).heads(model)["dense"].columns == 6
    state = model.state_dict()
    assert state.keys() == trained.keys()
    changed = [
        key for key, value in trained.items() if value.shape != state[key].shape or not torch.equal(value, state[key])
    ]
    assert changed
    assert all(key.startswith(PREDICTORS[name]) for key in changed)
