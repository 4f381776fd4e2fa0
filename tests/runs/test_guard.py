"""The guard before the training: what it counts, when it warns, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from harness.app.composition import composed
from harness.app.runner import check
from harness.assigners.atss import ATSSAssigner
from harness.detectors import equip
from harness.detectors.zoo.tiny_fcos import tiny_fcos
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.detectors.zoo.tiny_retinanet import tiny_retinanet
from harness.losses import FocalLoss, GIoULoss, L1Loss, Loss, QualityFocalLoss
from harness.runs.schema import folder
from harness.samplers.all import AllSampler
from harness.samplers.random import RandomSampler
from harness.training.guard import Measured, measure
from tests.detectors.dense_parity import images, scene

CPU = torch.device("cpu")


def measured(model: nn.Module, **pieces: object) -> Measured:
    batches = [(images(seed=i), scene("crowded", seed=i)) for i in range(3)]
    return measure(equip(model, **pieces), equip(model), batches, CPU, "fp32", images=4)  # type: ignore[arg-type]


def test_a_sound_arm_gets_no_warning() -> None:
    torch.manual_seed(0)
    found = measured(tiny_retinanet(6, min_size=96))
    assert found.warnings == []
    assert found.images == 4, "no more batches than asked for"
    assert found.stages["dense"]["objects"] == 2 * (60 + 59)
    assert all(count > 0 for count in found.stages["dense"]["positives_per_level"])
    assert sum(term["share"] for term in found.terms.values()) == pytest.approx(1)
    assert {term["times_baseline"] for term in found.terms.values()} == {1.0}


def test_squares_of_eight_strides_on_small_objects_are_marked() -> None:
    """The combination that a shipped sweep once ran: nine of ten objects without a positive."""
    torch.manual_seed(0)
    found = measured(tiny_fcos(6, min_size=96), assigner=ATSSAssigner(point_scale=8.0))
    assert found.stages["dense"]["without_positive"] > 0.2
    first, *_ = found.warnings
    assert "of the objects in the first training images have no positive" in first
    assert first.endswith("change assigner.point_scale")


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        (
            RandomSampler(num=64, pos_fraction=0.25, add_gt_as_proposals=False),
            "set sampler.add_gt_as_proposals=true, or",
        ),
        (AllSampler(), "no ground-truth boxes join them with AllSampler; this may pass as the RPN learns"),
    ],
    ids=["a choice", "none"],
)
def test_proposals_that_no_ground_truth_joins_are_named_as_the_cause(sampler: object, says: str) -> None:
    """Untrained proposals fit few objects, which says nothing of the assigner."""
    torch.manual_seed(0)
    found = measured(tiny_rcnn(6, min_size=96), sampler=sampler)
    (line,) = [line for line in found.warnings if line.startswith("stage roi: ") and "have no positive" in line]
    assert says in line


def test_a_weak_term_is_marked() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    weak = Loss(FocalLoss(), L1Loss(), "image_positives", regression_weight=0.01)
    (line,) = measured(model, loss=weak).warnings
    assert line.startswith("the term bbox_regression is 100 times weaker")
    equal = Loss(FocalLoss(), GIoULoss(), "image_positives", regression_weight=0.01, balance="equal")
    assert measured(model, loss=equal).warnings == []


def test_a_term_without_a_sample_or_a_weight_is_no_matter_of_its_strength() -> None:
    torch.manual_seed(0)
    idle = Loss(FocalLoss(), L1Loss(), "image_positives", regression_weight=0)
    (line,) = measured(tiny_retinanet(6, min_size=96), loss=idle).warnings
    assert line.startswith("the term bbox_regression is 0 over the first training images: the sampler took nothing")
    assert "loss.balance" not in line


def test_a_class_loss_towards_the_iou_of_untrained_boxes_is_said_to_be_one() -> None:
    """A weight would be wrong: the term grows by itself as the boxes fit."""
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    weak = Loss(QualityFocalLoss(), L1Loss(), "image_positives", classification_weight=0.01)
    (line,) = measured(model, loss=weak).warnings
    assert line.startswith("the term classification is ")
    assert line.endswith("its targets follow the IoU of boxes that are not trained yet, which passes")
    assert "loss.balance" not in line


@pytest.mark.parametrize(
    ("detector", "recipe", "typed", "published"),
    [
        ("tiny_retinanet", "gfl", (), True),
        ("tiny_fcos", "tood", ("optimizer.lr=0.1",), True),
        ("tiny_retinanet", "gfl", ("loss.regression_weight=0.01",), False),
        ("tiny_retinanet", "gfl", ("loss/classification=focal",), False),
        ("tiny_retinanet", "none", (), False),
        ("tiny_rcnn", "libra_rcnn", ("experiment/arm=balanced_l1",), True),
        ("tiny_rcnn", "libra_rcnn", ("experiment/arm=seesaw",), False),
    ],
)
def test_the_losses_of_a_recipe_are_published(
    detector: str, recipe: str, typed: tuple[str, ...], published: bool
) -> None:
    chosen = [f"detector={detector}", f"recipe={recipe}", *typed]
    config, choices = composed(chosen)
    experiment = check(config, [str(folder("conf"))], choices=choices, overrides=chosen)
    assert experiment.loss_is_published is published


def test_losses_that_an_experiment_writes_are_not_those_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "weaker.yaml"
    file.write_text("# @package _global_\nloss:\n  regression_weight: 0.01\n")
    chosen = ["detector=tiny_retinanet", "recipe=gfl", "experiment=weaker"]
    config, choices = composed(chosen, tmp_path)
    experiment = check(config, [str(folder("conf")), str(tmp_path)], choices=choices, overrides=chosen)
    assert config.loss.regression_weight == 0.01
    assert not experiment.loss_is_published


def test_a_term_that_is_published_weak_is_not_marked() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    weak = Loss(FocalLoss(), L1Loss(), "image_positives", regression_weight=0.01)
    batches = [(images(), scene("crowded"))]
    found = measure(equip(model, loss=weak), equip(model), batches, CPU, "fp32", loss_is_published=True)
    assert found.warnings == []
    assert found.terms["bbox_regression"]["times_baseline"] == pytest.approx(0.01)


def test_it_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = tiny_retinanet(6, min_size=96)
    model.backbone.body.stem.add_module("norm", nn.BatchNorm2d(16))  # type: ignore[union-attr]
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    measured(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
