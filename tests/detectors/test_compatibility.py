"""Every choice of assigner, sampler and loss in every stage either trains or is refused with its line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from harness.core.structures import ClassCounts, Need
from harness.criterion import compatibility
from harness.criterion.compatibility import ASSIGNERS, CLASSIFICATION, REGRESSION, SAMPLERS, refusals
from harness.criterion.stage import StageComponents
from harness.detectors import equip
from harness.detectors.adapters.rcnn_facts import roi_head, rpn_head
from harness.detectors.facts import heads_for, refusals_for
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.interface import Space
from harness.losses.pair import Loss
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from tests.detectors.rcnn_parity import scenes, step

CONF = Path(compatibility.__file__).parents[2] / "conf"
IMAGES, TARGETS = scenes(96, 5)["ordinary"]
COUNTS = ClassCounts(torch.tensor([9, 5, 3, 1]), torch.tensor([20, 5, 4, 1]), num_images=12)
STAGE = (
    "+quota={num: 16, pos_fraction: 0.25}",
    "+matching={pos_iou_thr: 0.5, neg_iou_thr: 0.5, min_pos_iou: 0.5, match_low_quality: true}",
    "+smooth_l1_beta=1.0",
    "+point_scale=8.0",
    "+regress_ranges=null",
    "+run={memory_bound: 1073741824}",
)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def composed(group: str, option: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=[f"+{group}={option}", *STAGE])


def piece(group: str, option: str) -> Any:
    """The piece of ``conf/<group>/<option>.yaml`` as a stage would build it."""
    return instantiate(OmegaConf.select(composed(group, option), group.replace("/", ".")))


def loss(classification: Any = None, regression: Any = None) -> Loss:
    return Loss(classification or CrossEntropyLoss(), regression or SmoothL1Loss(beta=1.0))


@pytest.mark.parametrize(
    ("group", "table"),
    [
        ("assigner", ASSIGNERS),
        ("sampler", SAMPLERS),
        ("loss/classification", CLASSIFICATION),
        ("loss/regression", REGRESSION),
    ],
)
def test_the_tables_name_every_choice(group: str, table: Any) -> None:
    assert sorted(table) == options(group)


@pytest.mark.parametrize("option", ASSIGNERS)
def test_the_table_of_assigners(option: str) -> None:
    assert piece("assigner", option).needs == ASSIGNERS[option]


@pytest.mark.parametrize("option", SAMPLERS)
def test_the_table_of_samplers(option: str) -> None:
    of_the_head = {Need.LOSSES, Need.SHAPES, Need.ANCHORS, Need.LEVELS, Need.STRIDES}
    assert piece("sampler", option).needs & of_the_head == SAMPLERS[option]


def test_the_tables_of_losses() -> None:
    for option, activation in CLASSIFICATION.items():
        assert piece("loss/classification", option).activation is activation
    for option, space in REGRESSION.items():
        assert piece("loss/regression", option).space is space


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return tiny_rcnn(5, min_size=96)


def check(model: Any, stage: str, trio: StageComponents, refused: bool) -> None:
    """The stage refuses the trio as foreseen, or trains with it."""
    arguments: dict[str, Any] = {"stages": {"rpn": trio}}
    if stage == "roi":
        arguments = {"assigner": trio.assigner, "sampler": trio.sampler, "loss": trio.loss}
    if refused:
        with pytest.raises(compatibility.IncompatibleError, match=f"^stage {stage}: .*; choose one of ") as caught:
            equip(model, **arguments, class_counts=COUNTS)
        assert "\n" not in str(caught.value)
        return
    twin = equip(model, **arguments, class_counts=COUNTS)
    losses, gradients = step(twin, IMAGES, TARGETS)
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


@pytest.mark.parametrize("stage", ["rpn", "roi"])
@pytest.mark.parametrize("option", options("assigner"))
def test_assigners(model: Any, option: str, stage: str) -> None:
    needs_grid = bool(ASSIGNERS[option] & {Need.LEVELS, Need.STRIDES})
    chosen = StageComponents(assigner=piece("assigner", option))
    if stage == "roi" and option == "hungarian":  # one to one, among proposals that the ground truth has joined
        with pytest.raises(
            compatibility.IncompatibleError, match=r"^stage roi: HungarianAssigner .*; set sampler.add_gt_as_prop"
        ):
            equip(model, assigner=chosen.assigner)
        return
    check(model, stage, chosen, refused=stage == "roi" and needs_grid)


@pytest.mark.parametrize("stage", ["rpn", "roi"])
@pytest.mark.parametrize("option", options("sampler"))
def test_samplers(model: Any, option: str, stage: str) -> None:
    check(model, stage, StageComponents(sampler=piece("sampler", option)), refused=False)


@pytest.mark.parametrize("option", options("loss/classification"))
def test_classification_losses(model: Any, option: str) -> None:
    check(model, "roi", StageComponents(loss=loss(classification=piece("loss/classification", option))), refused=False)


@pytest.mark.parametrize("option", options("loss/classification"))
def test_classification_losses_in_an_rpn(model: Any, option: str) -> None:
    chosen = piece("loss/classification", option)
    check(model, "rpn", StageComponents(loss=loss(classification=chosen)), refused=chosen.activation != "sigmoid")


@pytest.mark.parametrize("option", options("sampler"))
def test_a_loss_that_ranks_no_negatives(model: Any, option: str) -> None:
    """The AP loss of every negative is 0: mining would go by index."""
    trio = StageComponents(
        sampler=piece("sampler", option), loss=loss(classification=piece("loss/classification", "ap_loss"))
    )
    check(model, "rpn", trio, refused=Need.LOSSES in SAMPLERS[option])


@pytest.mark.parametrize("option", options("loss/regression"))
def test_regression_losses(model: Any, option: str) -> None:
    chosen = piece("loss/regression", option)
    check(model, "roi", StageComponents(loss=loss(regression=chosen)), refused=chosen.space is Space.DISTRIBUTION)


def test_lines() -> None:
    heads = {"rpn": rpn_head(), "roi": roi_head("roi", 5, (10.0, 10.0, 5.0, 5.0))}
    trios = {
        "rpn": StageComponents(loss=loss()),
        "roi": StageComponents(
            assigner=piece("assigner", "atss"), loss=loss(regression=piece("loss/regression", "distribution_focal"))
        ),
    }
    first, second, third = refusals(heads, trios)
    assert first.startswith("stage rpn: CrossEntropyLoss reads softmax logits, the head gives sigmoid; choose one of ")
    assert "binary_cross_entropy" in first
    assert second.startswith("stage roi: ATSSAssigner needs levels, which proposals do not have; choose one of ")
    assert "max_iou" in second
    assert "simota" not in second
    assert third.startswith("stage roi: DistributionFocalLoss needs a distribution over bins per side")
    assert refusals(heads, {}) == []


@pytest.mark.parametrize(
    "target", ["harness.detectors.zoo.tiny_fcos.tiny_fcos", "harness.detectors.zoo.yolox.tiny_yolox"]
)
def test_points_have_no_shapes(target: str) -> None:
    """A square of one stride has about the IoU 0 with most objects: thresholds on it would train on next to nothing."""
    for option in ("max_iou", "torchvision", "ssd"):
        chosen = piece("assigner", option)
        (line,) = refusals_for(target, StageComponents(assigner=chosen), {})
        reason = f"stage dense: {type(chosen).__name__} needs boxes with shapes of their own, which points do not have"
        head, choices = line.split("; choose one of ")
        assert head == reason
        assert {"atss", "fcos", "simota"} <= set(choices.split(", "))
        assert not {"max_iou", "torchvision", "ssd", "grid"} & set(choices.split(", "))
    for option in ("atss", "paa", "fcos"):
        assert refusals_for(target, StageComponents(assigner=piece("assigner", option)), {}) == []


@pytest.mark.parametrize("option", ["iou_balanced", "combined"])
def test_samplers_that_compare_ious_are_refused_on_points(option: str) -> None:
    """The IoU of a square of one stride says how large an object is, not how well a prediction fits."""
    (line,) = refusals_for(
        "harness.detectors.zoo.tiny_fcos.tiny_fcos", StageComponents(sampler=piece("sampler", option)), {}
    )
    reason, choices = line.split("; choose one of ")
    assert reason.endswith("needs boxes with shapes of their own, which points do not have")
    assert {"random", "ohem"} <= set(choices.split(", "))
    assert not {"iou_balanced", "combined"} & set(choices.split(", "))


def test_facts_by_name() -> None:
    target = "harness.detectors.zoo.rcnn.fasterrcnn_resnet50_fpn"
    heads = heads_for(target, 21, weights="DEFAULT")  # the weights are not wanted: nothing is downloaded
    assert heads["roi"].columns == 21
    assert heads["rpn"].columns == 1
    assert refusals_for(target, StageComponents(), {}) == []
    assert refusals_for(target, StageComponents(), {"roi2": StageComponents()}) == [
        "FasterRCNN has no stage 'roi2'; its stages are rpn, roi"
    ]
    assert len(refusals_for(target, StageComponents(assigner=piece("assigner", "atss")), {})) == 1
    with pytest.raises(ImportError, match="does not exist"):
        heads_for("harness.detectors.zoo.rcnn.nothing", 21)
