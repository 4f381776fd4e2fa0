"""With the natural trio, losses and gradients are torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.detectors import equip
from harness.detectors.zoo import rcnn as rcnn_models
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from tests.detectors.rcnn_parity import Recorder, assert_same, replayed, scenes, step

CLASSES = 5
SCENES = list(scenes(64, CLASSES))
HOSTS: dict[str, Callable[..., Any]] = {
    builder.__name__: builder
    for builder in (
        rcnn_models.fasterrcnn_resnet50_fpn,
        rcnn_models.fasterrcnn_resnet50_fpn_v2,
        rcnn_models.fasterrcnn_mobilenet_v3_large_fpn,
        rcnn_models.fasterrcnn_mobilenet_v3_large_320_fpn,
        rcnn_models.maskrcnn_resnet50_fpn,
        rcnn_models.maskrcnn_resnet50_fpn_v2,
        rcnn_models.keypointrcnn_resnet50_fpn,
    )
}


def spread(model: torch.nn.Module) -> None:
    """Larger weights in the predictors, so that proposals and losses differ from one another as in training."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if "cls_logits" in name or "cls_score" in name or "bbox_pred" in name:
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="module")
def tiny() -> Any:
    torch.manual_seed(0)
    model = tiny_rcnn(CLASSES)
    spread(model)
    return model


@pytest.mark.parametrize("scene", SCENES)
def test_tiny_rcnn(tiny: Any, scene: str) -> None:
    images, targets = scenes(128, CLASSES)[scene]
    recorder = Recorder()
    ours = step(equip(tiny, generator=torch.Generator().manual_seed(1), observers=[recorder]), images, targets)
    theirs = replayed(tiny, recorder, lambda: step(tiny, images, targets))
    assert_same(ours, theirs, 1e-5)


def test_stock_torchvision_where_the_quota_takes_everything(tiny: Any) -> None:
    """No replay: both samplers take every candidate, so that nothing is left to chance."""
    torch.manual_seed(0)
    model = tiny_rcnn(CLASSES, rpn_batch_size_per_image=10_000, box_batch_size_per_image=10_000)
    spread(model)
    images, targets = scenes(128, CLASSES)["ordinary"]
    assert_same(step(equip(model), images, targets), step(model, images, targets), 1e-5)


def small(name: str) -> Any:
    """The named detector at 64 px with few proposals."""
    classes = 2 if name.startswith("keypoint") else CLASSES
    torch.manual_seed(0)
    quotas = {"rpn_batch_size_per_image": 64, "box_batch_size_per_image": 16, "rpn_post_nms_top_n_train": 100}
    model = HOSTS[name](classes, min_size=64, max_size=64, **quotas)
    spread(model)
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # its statistics over eight pixels would magnify the rounding of sums in another order
    return model


def compare(name: str, chosen: list[str]) -> None:
    model = small(name)
    batches = scenes(64, model.roi_heads.box_predictor.cls_score.out_features)
    for scene in chosen:
        images, targets = batches[scene]
        recorder = Recorder()
        ours = step(equip(model, generator=torch.Generator().manual_seed(1), observers=[recorder]), images, targets)
        theirs = replayed(model, recorder, lambda images=images, targets=targets: step(model, images, targets))
        assert_same(ours, theirs, 1e-5)


@pytest.mark.parametrize("name", HOSTS)
def test_torchvision(name: str) -> None:
    compare(name, ["one image without objects"])


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_torchvision_in_every_scene(name: str) -> None:
    compare(name, SCENES)
