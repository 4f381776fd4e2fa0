"""What every assigner of ``conf/assigner`` promises: :func:`harness.testing.check_assigner`, and more."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from harness.core.structures import (
    Assigner,
    Need,
    Predictions,
)
from harness.testing import check_assigner
from harness.testing.assigners import assigned, demand_sound
from harness.testing.assignment_scenes import padded_batch
from harness.testing.contract import equal
from tests.assigners.scenes import CLASSES, scene

CONF = Path(__file__).parents[2] / "conf" / "assigner"
CHOICES = sorted(path.stem for path in CONF.glob("*.yaml"))
# These say in their docstrings that they leave the device.
LEAVES_THE_DEVICE = {"hungarian", "topk_hungarian"}
STAYING = [choice for choice in CHOICES if choice not in LEAVES_THE_DEVICE]
# A loop of a fixed number of rounds compiles to as many copies of its body: a few prove the same.
FEW_ROUNDS = {"paa": {"max_iter": 3}, "ota": {"sinkhorn_iter": 3}}

# What the stage of a detector provides beside the choice.
MATCHING = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0.2, "match_low_quality": True}


@cache
def composed(choice: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(choice)


def build(choice: str, **changes: Any) -> Assigner:
    shared = {"matching": MATCHING, "run": {"memory_bound": 2**30}, "point_scale": 4.0, "regress_ranges": None}
    stage = OmegaConf.create({**shared, "assigner": composed(choice)})
    stage.assigner.update(changes)
    return instantiate(stage.assigner)


@pytest.fixture(params=CHOICES)
def choice(request: pytest.FixtureRequest) -> str:
    return request.param


def test_there_are_choices() -> None:
    assert {"max_iou", "torchvision", "ssd", "atss", "center_region", "fcos", "uniform", "grid", "yolo_ratio"} <= set(
        CHOICES
    )


def test_keeps_the_contract(choice: str) -> None:
    check_assigner(build(choice, **FEW_ROUNDS.get(choice, {})), compiles=choice in STAYING)


def test_a_thousand_objects(choice: str) -> None:
    drawn = scene(5, objects=1000, count=30)
    demand_sound(assigned(build(choice), *drawn), *drawn)


def test_the_same_within_a_small_memory_bound(choice: str) -> None:
    drawn = padded_batch([scene(i, kind, objects=2 + i) for i, kind in enumerate(("plain", "ties", "crowd"))])
    expected = assigned(build(choice), *drawn)
    for memory_bound in (1, 5_000):
        assert equal(assigned(build(choice, memory_bound=memory_bound), *drawn), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite(choice: str, value: float) -> None:
    assigner = build(choice)
    truth, candidates = scene(2, objects=4)
    assert candidates.predictions is not None
    scores, boxes = candidates.predictions.scores.clone(), candidates.predictions.boxes.clone()
    scores[::5] = value
    boxes[2::7] = value
    broken = candidates.predicted(Predictions(scores, boxes))
    found = assigned(assigner, truth, broken)
    if Need.PREDICTIONS in assigner.needs and choice != "uniform":  # YOLOF also matches the anchors themselves
        bad = ~(scores.isfinite().all(-1) & boxes.isfinite().all(-1))
        assert not found.positive[bad].any()


@pytest.mark.slow
@pytest.mark.parametrize("choice", STAYING)
def test_compiled_to_machine_code(choice: str) -> None:
    torch.compiler.reset()
    assigner = build(choice, **FEW_ROUNDS.get(choice, {}))
    program = torch.compile(lambda t, c: assigned(assigner, t, c), fullgraph=True, dynamic=True)
    drawn = padded_batch([scene(1, "padded", objects=4), scene(2, objects=7)])
    found, expected = program(*drawn), assigned(assigner, *drawn)
    assert (found.gt_index == expected.gt_index).float().mean() > 0.99  # fused sums may round differently
    torch.testing.assert_close(found.max_iou, expected.max_iou)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_cpu(choice: str) -> None:
    assigner, drawn = build(choice), padded_batch([scene(1, "crowd"), scene(2, "padded", objects=6)])
    expected = assigned(assigner, *drawn)

    def there(value: Any) -> Any:
        changes = {}
        for f in fields(value):
            entry = getattr(value, f.name)
            changes[f.name] = entry.cuda() if isinstance(entry, Tensor) else entry
            changes[f.name] = there(entry) if is_dataclass(entry) else changes[f.name]
        return replace(value, **changes)

    truth, candidates = there(drawn[0]), there(drawn[1])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("default" if choice in LEAVES_THE_DEVICE else "error")
    try:
        found = assigned(assigner, truth, candidates)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (found.gt_index.cpu() == expected.gt_index).float().mean() > 0.98  # exact ties of the device's rounding
    torch.testing.assert_close(found.max_iou.cpu(), expected.max_iou)


def test_scores_have_the_classes_of_the_labels() -> None:
    truth, candidates = scene(0)
    assert candidates.predictions is not None
    assert candidates.predictions.scores.shape[-1] == CLASSES > truth.labels.max()
