"""Every large detector trains with its published optimizer, at a rate for the batch; what is typed wins."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from harness.app.composition import composed
from harness.experiment.pieces import optimizer_parts
from harness.runs.schema import folder
from harness.training.optimizer import make_optimizer
from harness.training.schedule import lr_factor

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
    return make_optimizer(*optimizer_parts(config), nn.Linear(1, 1))


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
    assert config.run.clip_norm is None  # as in Detectron's, torchvision's and MMDetection's trainings


def published_yolox(iteration: float, total: int = 30_000) -> float:
    """The factor of yoloxwarmcos with 100 iterations an epoch, of 300, as its lr_scheduler.py computes it."""
    warmup, constant, low = 5 * total // 300, 15 * total // 300, 0.05
    if iteration <= warmup:
        return (iteration / warmup) ** 2
    if iteration >= total - constant:
        return low
    share = (iteration - warmup) / (total - warmup - constant)
    return low + (1 - low) / 2 * (1 + math.cos(math.pi * share))


def test_the_long_training_of_yolox() -> None:
    config, choices = composed(["experiment=yolox_300e", "data.root=/data/coco"])
    run = config.run
    assert (run.epochs, run.batch_size, run.clip_norm, run.ema_decay) == (300, 64, None, 0.9998)
    assert (choices["recipe"], choices["augment@data.augment"], config.optimizer.lr) == (
        "yolox",
        "mosaic_mixup_yolox",
        0.01,
    )
    schedule: Any = OmegaConf.to_object(config.schedule)
    for iteration in (0, 100, 400, 499):  # the first step is already above 0
        assert lr_factor(iteration, 30_000, schedule) == pytest.approx(published_yolox((iteration + 1) * 500 / 501))
    for iteration in (500, 501, 5_000, 15_000, 28_000, 28_499, 28_500, 29_999):
        assert lr_factor(iteration, 30_000, schedule) == pytest.approx(published_yolox(iteration))


def test_the_published_trainings_of_the_guide_compose() -> None:
    """The table of docs/own-data.md: every optimizer is in it, and its command lines are valid."""
    guide = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text("utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in guide.splitlines() if "| `" in line]
    commands: dict[str, str] = {}
    for optimizer, _, command in (row for row in rows if len(row) == 3):
        commands[optimizer] = list(commands.values())[-1] if command == "the same" else command
    published = {path.stem for path in (folder("conf") / "optimizer").glob("*.yaml")} - {"adamw"}
    assert set(commands) == published
    for optimizer, command in commands.items():
        config, _ = composed([f"optimizer={optimizer}", *command.split()])
        settings: Any = OmegaConf.to_object(config.schedule)
        settings.check()
        images = re.search(r"for_batch:[\d.]+,(\d+)", (folder("conf") / "optimizer" / f"{optimizer}.yaml").read_text())
        assert images is None or config.run.batch_size == int(images[1])
