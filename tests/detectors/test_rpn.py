"""The RPN's candidates, and assigners in it that look at levels, strides or predictions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.assigners.atss import ATSSAssigner
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.criterion.stage import StageComponents
from harness.detectors import equip
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from tests.detectors.rcnn_parity import Recorder, scenes, step

IMAGES, TARGETS = scenes(96, 5)["ordinary"]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return tiny_rcnn(5, min_size=96)


def test_anchors_know_their_level_and_stride(model: Any) -> None:
    recorder = Recorder()
    step(equip(model, observers=[recorder]), IMAGES, TARGETS)
    candidates = recorder.selections["rpn"].candidates
    sizes = [12 * 12 * 2, 6 * 6 * 2]  # 96 px on strides 8 and 16, two anchors per cell
    assert candidates.boxes.shape == (2, sum(sizes), 4)
    assert candidates.num_levels == 2
    assert candidates.level is not None
    assert candidates.level.bincount().tolist() == sizes
    assert candidates.stride is not None
    assert candidates.stride[:1].item() == 8
    assert candidates.stride[-1:].item() == 16
    sides = (candidates.boxes[..., 2] - candidates.boxes[..., 0])[0]
    assert sides[: sizes[0]].unique().tolist() == [20, 28]
    assert sides[sizes[0] :].unique().tolist() == [40, 56]


def test_every_object_is_class_zero(model: Any) -> None:
    recorder = Recorder()
    step(equip(model, observers=[recorder]), IMAGES, TARGETS)
    assert not recorder.selections["rpn"].truth.labels.any()
    assert recorder.selections["roi"].truth.labels.any()


@pytest.mark.parametrize(
    "assigner", [ATSSAssigner(), SimOTAAssigner(), TaskAlignedAssigner()], ids=["atss", "simota", "task_aligned"]
)
def test_dense_assigners(model: Any, assigner: Any) -> None:
    recorder = Recorder()
    losses, gradients = step(
        equip(model, stages={"rpn": StageComponents(assigner=assigner)}, observers=[recorder]), IMAGES, TARGETS
    )
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert any(name.startswith("rpn.head.cls_logits") for name in gradients)
    positives = recorder.selections["rpn"].assignment.positive.sum(-1)
    assert (positives >= torch.tensor([len(target["labels"]) for target in TARGETS])).all()


def test_proposals_are_torchvisions_own(model: Any) -> None:
    images, targets = model.transform(IMAGES, TARGETS)
    features = model.backbone(images.tensors)
    twin = equip(model)
    theirs, _ = model.rpn(images, features, targets)
    ours, _ = twin.rpn(images, features, targets)
    assert all(torch.equal(own, host) for own, host in zip(ours, theirs, strict=True))


def test_training_needs_targets(model: Any) -> None:
    images, _ = model.transform(IMAGES, TARGETS)
    features = model.backbone(images.tensors)
    with pytest.raises(ValueError, match="targets are needed"):
        equip(model).rpn(images, features)
