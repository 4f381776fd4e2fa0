"""Every recipe trains in every small detector it is made for, fits the others by its facts, and says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from harness.app.run_end import Stopped
from harness.app.runner import check
from harness.data.dataset import KEYPOINTS, MASKS
from harness.data.drawing import figures
from harness.data.loading import to_device
from harness.data.sources.shapes import shapes
from harness.detectors.facts import refusals_for
from harness.experiment.pieces import build, build_pieces
from harness.runs.schema import folder, register
from harness.training.guard import StageCount
from harness.training.streams import Streams
from tests.detectors.dense_parity import images, losses_and_gradients, scene

CONF = folder("conf")
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
FITS: dict[str, list[str]] = {
    name: OmegaConf.to_container(OmegaConf.load(CONF / "recipe" / f"{name}.yaml").recipe_fits)  # type: ignore[misc]
    for name in RECIPES
}
PAIRS = [(recipe, detector) for recipe in RECIPES for detector in FITS[recipe]]
TINY = [pair for pair in PAIRS if pair[1].startswith("tiny_")]
BOXES_ONLY = [pair for pair in TINY if pair[1] not in ("tiny_maskrcnn", "tiny_keypointrcnn")]


def composed(recipe: str, detector: str) -> DictConfig:
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=[f"recipe={recipe}", f"detector={detector}"])


@pytest.mark.parametrize(("recipe", "detector"), BOXES_ONLY, ids=map("-".join, BOXES_ONLY))
def test_it_trains(recipe: str, detector: str) -> None:
    config = composed(recipe, detector)
    streams = Streams(0, torch.device("cpu"))
    torch.manual_seed(0)
    pieces = build_pieces(config, [])
    model = pieces.equip(build(config.detector, "detector", num_classes=6), streams)
    for progress in (0.0, 1.0):
        model.set_progress(progress)
        losses, gradients = losses_and_gradients(model, images(), scene("ordinary"))
        assert all(torch.isfinite(value) for value in losses.values()), losses
        assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
        empty, _ = losses_and_gradients(model, images(), scene("all without an object"))
        assert all(torch.isfinite(value) for value in empty.values()), empty


@pytest.fixture(scope="module")
def embedded() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """The first training images of the embedded data, with masks and keypoints."""
    data = shapes(num_train=12, num_val=1).yielding((MASKS, KEYPOINTS), len(figures.KEYPOINTS)).train
    pictures, targets = zip(*(data[place][:2] for place in range(12)), strict=True)
    return to_device((list(pictures), list(targets)), "cpu")


@pytest.mark.parametrize(("recipe", "detector"), TINY, ids=map("-".join, TINY))
def test_its_first_step_has_a_positive_for_nearly_every_object(
    recipe: str, detector: str, embedded: tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]
) -> None:
    config = composed(recipe, detector)
    torch.manual_seed(0)
    model = build_pieces(config, []).equip(
        build(config.detector, "detector", num_classes=7), Streams(0, torch.device("cpu"))
    )
    model.set_progress(0.0)
    counts: dict[str, StageCount] = {}
    for criterion in model.criteria.values():
        criterion.observers.append(lambda stage, selection: counts.setdefault(stage, StageCount()).add(selection))
    with torch.no_grad():
        losses = model.train()(*embedded)
    assert all(torch.isfinite(value) for value in losses.values()), losses
    assert counts
    assert all(count.objects > 30 for count in counts.values())
    assert {stage: count.share_without for stage, count in counts.items() if count.share_without >= 0.05} == {}


@pytest.mark.parametrize(
    ("recipe", "detector"), [pair for pair in PAIRS if pair not in TINY], ids=lambda value: str(value)
)
@pytest.mark.slow
def test_it_fits(recipe: str, detector: str) -> None:
    config = composed(recipe, detector)
    pieces = build_pieces(config, [])
    options: dict[str, Any] = dict(config.detector)
    assert refusals_for(options.pop("_target_"), pieces.root, pieces.stages, **options) == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_names_its_source(recipe: str) -> None:
    """The first comment says paper (or that there is none) and the reference's configuration."""
    text = (CONF / "recipe" / f"{recipe}.yaml").read_text()
    comment = " ".join(line for line in text.splitlines()[1:8] if line.startswith("#"))
    assert any(word in comment for word in ("et al.", "&", "there is no paper")), comment
    assert all((Path(CONF) / "detector" / f"{detector}.yaml").is_file() for detector in FITS[recipe])


@pytest.mark.parametrize(
    ("recipe", "detector", "choices"),
    [("pisa_ssd", "tiny_rcnn", "tiny_ssd, "), ("libra_rcnn", "tiny_fcos", "tiny_rcnn, ")],  # a stage that is not there
)
def test_a_detector_that_it_is_not_made_for_is_refused_in_one_line(recipe: str, detector: str, choices: str) -> None:
    line = f"^the recipe is made for other detectors; choose one of detector={choices}"
    with pytest.raises(Stopped, match=line) as caught:
        check(composed(recipe, detector), [])
    assert "\n" not in caught.value.reason


def test_a_detector_that_it_is_made_for_is_accepted() -> None:
    assert check(composed("pisa_ssd", "tiny_ssd"), [])
