"""The small dense detectors as the configuration composes them: every assigner, sampler and loss, and the ladder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from harness.app import until_settled
from harness.core.structures import ClassCounts
from harness.criterion.compatibility import IncompatibleError
from harness.criterion.stage import Selection, StageComponents
from harness.detectors.equip import equip, family_of
from harness.losses.pair import Loss
from harness.runs import schema
from tests.detectors.dense_parity import Target, images, losses_and_gradients, scene

CONF = schema.folder("conf")
TINY = ("tiny_retinanet", "tiny_fcos", "tiny_ssd", "tiny_yolox")
DENSE = (
    *TINY,
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
    "yolox_tiny",
    "yolox_s",
)
SIDE = 64  # px
COUNTS = ClassCounts(torch.tensor([9, 5, 3, 1, 1]), torch.tensor([20, 5, 4, 1, 1]), num_images=12)


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def _composing() -> Iterator[None]:
    GlobalHydra.instance().clear()
    schema.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


@cache
def composed(*overrides: str) -> DictConfig:
    return compose("config", list(overrides))


@cache
def detector(name: str) -> nn.Module:
    """A detector of five classes for images of 64 px, untrained."""
    torch.manual_seed(0)
    node = composed(f"detector={name}").detector
    return instantiate(
        node, num_classes=6, **{key: SIDE for key in ("image_size", "min_size", "max_size") if key in node}
    )


@cache
def option(choice: str) -> tuple[str, dict[str, Any]]:
    """The key of ``group=option`` and what the option sets there, without the rest of a configuration."""
    key = choice.partition("=")[0].replace("/", ".")
    node = OmegaConf.select(compose(overrides=[f"+{choice}"]), key)
    return key, OmegaConf.to_container(node, resolve=False)  # type: ignore[return-value]


def trio(name: str, *choices: str) -> StageComponents:
    """The pieces of ``detector=name group=option ...``; composed option by option, which is the slow part of it."""
    config = copy.deepcopy(composed(f"detector={name}"))
    OmegaConf.set_struct(config, False)
    for choice in choices:
        OmegaConf.update(config, *option(choice), merge=False)
    return StageComponents(instantiate(config.assigner), instantiate(config.sampler), instantiate(config.loss))


def batch() -> tuple[list[Tensor], list[Target]]:
    return images(SIDE, SIDE), scene("ordinary", height=SIDE, width=SIDE - 16)


def trained(name: str, *choices: str) -> tuple[Selection, dict[str, Tensor]]:
    """One step of the detector; what was selected and the losses. Everything is finite."""
    seen: list[Selection] = []
    pieces = trio(name, *choices)
    twin = equip(
        detector(name),
        pieces.assigner,
        pieces.sampler,
        pieces.loss,
        class_counts=COUNTS,
        generator=torch.Generator().manual_seed(3),
        observers=[lambda _, selection: seen.append(selection)],
    )
    losses, gradients = losses_and_gradients(twin, *batch())
    assert all(loss.isfinite() for loss in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.abs().sum() > 0 for gradient in gradients.values())
    return seen[0], losses


def refused_or_trained(name: str, *choices: str) -> Selection | None:
    try:
        return trained(name, *choices)[0]
    except IncompatibleError as refused:
        line = str(refused)
        assert line.startswith("stage dense: ")
        assert "\n" not in line
        assert "; choose one of " in line
        return None


@pytest.mark.parametrize("name", DENSE)
def test_detectors_own_configuration_is_its_default_components(name: str) -> None:
    """``detector=retinanet_resnet50_fpn`` alone is torchvision's RetinaNet: pieces of the same classes and values.

    One value is not the model's: tiny_fcos has two levels, of which FCOS's published ranges would use one.
    """
    model = detector(name)
    default = family_of(model).default_components(model)["dense"]
    chosen = trio(name)
    for own, piece in ((default.assigner, chosen.assigner), (default.sampler, chosen.sampler)):
        assert type(own) is type(piece)
        differing = {"regress_ranges": piece.regress_ranges} if name == "tiny_fcos" and own is default.assigner else {}
        assert _values(own) | differing == _values(piece)
    own_loss, loss = default.loss, chosen.loss
    assert isinstance(own_loss, Loss)
    assert isinstance(loss, Loss)
    assert _values(own_loss) == _values(loss)
    for first, second in ((own_loss.classification, loss.classification), (own_loss.regression, loss.regression)):
        assert type(first) is type(second)
        assert _values(first) == _values(second)


def _values(piece: object) -> dict[str, object]:
    return {key: value for key, value in vars(piece).items() if not key.startswith("_") and key != "training"}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("assigner", options("assigner"))
def test_every_assigner_trains_or_is_refused(name: str, assigner: str) -> None:
    selection = refused_or_trained(name, f"assigner={assigner}")
    if selection is None:
        # they compare shapes, and points have none
        assert assigner in ("grid", "yolo_ratio", "yolov7_ota", "max_iou", "nwd", "torchvision", "ssd")
        assert name in ("tiny_fcos", "tiny_yolox")
        return
    assert selection.assignment.positive.any()


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("sampler", options("sampler"))
def test_every_sampler_trains(name: str, sampler: str) -> None:
    selection = refused_or_trained(name, f"sampler={sampler}")
    if selection is None:
        assert sampler in ("combined", "iou_balanced", "soft_sampling")  # they compare IoUs, and points have none
        assert name in ("tiny_fcos", "tiny_yolox")
        return
    sample, assignment = selection.sample, selection.assignment
    assert sample.used.any()
    chosen = assignment.gt_index.gather(-1, sample.index)
    assert ((chosen >= 0) == sample.positive)[sample.used].all()
    assert (chosen[sample.used] != -2).all()


@pytest.mark.parametrize("name", ["tiny_retinanet", "tiny_ssd"])
@pytest.mark.parametrize("assigner", ["simota", "ota", "task_aligned", "atss"])
@pytest.mark.parametrize("sampler", ["ohem", "iou_balanced", "hard_negative"])
def test_assigners_and_samplers_meet(name: str, assigner: str, sampler: str) -> None:
    selection, _ = trained(name, f"assigner={assigner}", f"sampler={sampler}")
    assert selection.sample.positive.any()


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("loss", options("loss/classification"))
def test_every_classification_loss_trains_or_is_refused(name: str, loss: str) -> None:
    refused_or_trained(name, f"loss/classification={loss}")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("loss", options("loss/regression"))
def test_every_regression_loss_trains_or_is_refused(name: str, loss: str) -> None:
    refused_or_trained(name, f"loss/regression={loss}")


@pytest.mark.parametrize("name", TINY)
def test_hard_example_mining_takes_the_hardest(name: str) -> None:
    selection, _ = trained(name, "sampler=ohem")
    sample, losses = selection.sample, selection.losses
    assert losses is not None
    for image in range(2):
        negatives = losses.classification[image][selection.assignment.negative[image]].sort(descending=True).values
        taken = losses.classification[image][sample.index[image][sample.negative[image]]].sort(descending=True).values
        assert len(taken) > 0
        torch.testing.assert_close(taken, negatives[: len(taken)])


def rungs() -> list[str]:
    return options("experiment/rung")


def test_the_ladder_has_the_reports_rungs_in_their_order() -> None:
    names = [name.split("_", 1)[1] for name in rungs()]
    assert names == ["coupled", "decoupled", "augmented", "center_only", "multi_positives", "simota", "ota"]


def _of_rung(rung: str) -> tuple[DictConfig, Selection]:
    config = composed("detector=tiny_yolox", f"experiment/rung={rung}")
    torch.manual_seed(0)
    model = instantiate(config.detector, num_classes=6, min_size=SIDE, max_size=SIDE)
    seen: list[Selection] = []
    twin = equip(
        model,
        instantiate(config.assigner),
        instantiate(config.sampler),
        instantiate(config.loss),
        observers=[lambda _, selection: seen.append(selection)],
    )
    losses, gradients = losses_and_gradients(twin, *batch())
    assert all(loss.isfinite() for loss in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    return config, seen[0]


@pytest.mark.parametrize("rung", rungs())
def test_every_rung_trains(rung: str) -> None:
    config, selection = _of_rung(rung)
    assert selection.assignment.positive.any()
    assert selection.candidates.boxes.shape[1] == (80 if config.detector.anchor_free else 240)


def test_rungs_differ_in_one_step_each() -> None:
    def facts(rung: str) -> dict[str, object]:
        config = composed("detector=tiny_yolox", f"experiment/rung={rung}")
        return {
            "head": config.detector.head,
            "augment": config.data.augment._target_.rsplit(".", 1)[1],
            "assigner": (config.detector.anchor_free, OmegaConf.to_container(config.assigner)),
        }

    steps = [facts(rung) for rung in rungs()]
    changes = [[key for key in a if a[key] != b[key]] for a, b in pairwise(steps)]
    assert changes == [["head"], ["augment"], ["assigner"], ["assigner"], ["assigner"], ["assigner"]]


def test_centre_only_and_multi_positives_are_one_and_nine_points() -> None:
    """A point counts where it is the object's alone, and where no side is farther than its level's range, 20 px."""
    boxes = torch.tensor([[10.5, 10.5, 29.5, 29.5]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}]
    counts = []
    for rung in ("4_center_only", "5_multi_positives"):
        config = composed("detector=tiny_yolox", f"experiment/rung={rung}")
        seen: list[Selection] = []
        twin = equip(
            instantiate(config.detector, num_classes=6, min_size=SIDE, max_size=SIDE),
            instantiate(config.assigner),
            observers=[lambda _, selection, seen=seen: seen.append(selection)],
        )
        losses_and_gradients(twin, [torch.rand(3, SIDE, SIDE)], targets)
        counts.append(int(seen[0].assignment.positive.sum()))
    assert counts == [1, 9]


def test_the_ladder_is_a_sweep_over_all_rungs() -> None:
    """The sweep file composes with the main job, sweeps every rung, and compares with one that exists."""
    until_settled.register()
    sweeps = schema.folder("sweeps")
    ladder = OmegaConf.load(sweeps / "yolox_ladder.yaml")
    assert ladder.hydra.mode == "MULTIRUN"
    rungs = {path.stem for path in (CONF / "experiment" / "rung").glob("*.yaml")}
    assert ladder.hydra.sweeper.params["experiment/rung"] == "glob(*)"
    assert ladder.hydra.sweeper.baseline in rungs
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(sweeps)):
        point = compose("yolox_ladder", ["experiment/rung=7_ota", f"hydra.searchpath=[file://{CONF}]"])
    GlobalHydra.instance().hydra = outer
    assert point.assigner._target_.endswith("OTAAssigner")
    assert point.data.augment._target_.endswith("MosaicMixup")
    assert point.detector._target_.endswith("tiny_yolox")
    assert point.sampler._target_.endswith("AllSampler")
    header = Path(sweeps / "yolox_ladder.yaml").read_text().splitlines()[:12]
    assert [any(line.startswith(f"# {word}:") for line in header) for word in ("Question", "Command", "Cost")] == [
        True
    ] * 3


@pytest.mark.parametrize("name", TINY)
def test_half_precision_changes_the_losses_little(name: str) -> None:
    """Under autocast the features are bfloat16; anchors, targets and losses are not."""
    model = detector(name)
    seen: list[Selection] = []
    twin = equip(model, observers=[lambda _, selection: seen.append(selection)])
    full, _ = losses_and_gradients(twin, *batch())
    twin.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = twin(*batch())
    assert seen[1].candidates.boxes.dtype == torch.float32
    assert torch.equal(seen[1].candidates.boxes, seen[0].candidates.boxes)
    for loss, expected in zip(half.values(), full.values(), strict=True):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected, rtol=0.05, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_one_epoch_on_the_embedded_data_finds_objects(name: str, tmp_path: Path) -> None:
    """2,000 images once: the loss falls and mAP is above zero."""
    from harness.app.runner import run

    overrides = [f"detector={name}", "tracker=none", "run.iterations=500", "run.threads=1", f"run.root={tmp_path}"]
    finished = run(composed(*overrides), choices={"detector": name}, sources=[str(CONF)])
    assert finished.map > 0.01
