"""Every large detector trains with its published optimizer, at a rate for the batch; what is typed wins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.app.composition import composed
from harness.experiment.pieces import build
from harness.runs.schema import folder

# detector -> class, learning rate, images that it was published for (None: not in proportion), weight decay
R_CNN = ("SGD", 0.02, 16, 1e-4)
PUBLISHED = {
    "cascade_rcnn_resnet50_fpn": R_CNN,
    "fasterrcnn_mobilenet_v3_large_320_fpn": R_CNN,
    "fasterrcnn_mobilenet_v3_large_fpn": R_CNN,
    "fasterrcnn_resnet50_fpn": R_CNN,
    "fasterrcnn_resnet50_fpn_v2": ("SGD", 0.1, 64, 4e-5),
    "fcos_resnet50_fpn": ("SGD", 0.01, 16, 1e-4),
    "keypointrcnn_resnet50_fpn": R_CNN,
    "maskrcnn_resnet50_fpn": R_CNN,
    "maskrcnn_resnet50_fpn_v2": ("SGD", 0.1, 64, 4e-5),
    "retinanet_resnet50_fpn": ("SGD", 0.01, 16, 1e-4),
    "retinanet_resnet50_fpn_v2": ("AdamW", 1e-4, None, 0.05),
    "ssd300_vgg16": ("SGD", 0.002, 32, 5e-4),
    "ssdlite320_mobilenet_v3_large": ("SGD", 0.15, 192, 4e-5),
    "yolox_s": ("SGD", 0.01, 64, 5e-4),
    "yolox_tiny": ("SGD", 0.01, 64, 5e-4),
}


def optimizer_of(*overrides: str) -> torch.optim.Optimizer:
    config, _ = composed(list(overrides))
    made: torch.optim.Optimizer = build(config.optimizer, "optimizer")([nn.Parameter(torch.zeros(1))])
    return made


def test_every_large_detector_is_in_the_table() -> None:
    detectors = {path.stem for path in (folder("conf") / "detector").glob("*.yaml")}
    assert {name for name in detectors if not name.startswith("tiny_")} == set(PUBLISHED)


@pytest.mark.parametrize("detector", PUBLISHED)
def test_a_large_detector_has_its_published_rate_for_the_batch(detector: str) -> None:
    kind, rate, images, decay = PUBLISHED[detector]
    made = optimizer_of(f"detector={detector}", "run.batch_size=2")
    assert type(made).__name__ == kind
    assert made.defaults["lr"] == pytest.approx(rate * 2 / images if images else rate)
    assert made.defaults["weight_decay"] == decay
    assert made.defaults.get("nesterov", False) is detector.startswith("yolox")


def test_a_recipe_and_a_typed_optimizer_come_after_the_detector() -> None:
    assert optimizer_of("detector=retinanet_resnet50_fpn", "recipe=tood").defaults["lr"] == pytest.approx(0.0025)
    typed = optimizer_of("detector=retinanet_resnet50_fpn", "optimizer=adamw")
    assert (type(typed).__name__, typed.defaults["lr"]) == ("AdamW", 0.004)
    assert optimizer_of("detector=retinanet_resnet50_fpn", "optimizer.lr=0.5").defaults["lr"] == 0.5
    assert optimizer_of("detector=tiny_retinanet").defaults["lr"] == 0.004


def test_the_long_schedule_of_coco() -> None:
    config, _ = composed(["experiment=coco_1x", "data.root=/data/coco"])
    assert (config.run.epochs, config.run.batch_size, config.schedule.kind) == (12, 16, "multistep")
    assert config.optimizer.lr == pytest.approx(0.02)
    config, _ = composed(["experiment=coco_1x", "data.root=/data/coco", "detector=retinanet_resnet50_fpn"])
    assert config.optimizer.lr == pytest.approx(0.01)
    assert config.detector.weights_backbone == "DEFAULT"
