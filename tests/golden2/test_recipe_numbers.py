"""The numbers that stand in a recipe are those of the reference's own configuration.

The checks of ``check_recipes`` write the parameters of a case over the recipe, so that cases with other parameters can
be compared; a wrong number in the recipe itself would be written over as well. Every item has cases that keep the
reference's configuration: there, nothing may be written over with another value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from harness.losses.regression import DistributionFocalLoss
from harness.runs.schema import folder, register
from tests.golden.case import case_names, load_case
from tests.golden2 import check_recipes
from tests.golden2.test_golden2 import HERE

# What a scene changes although the recipe is the reference's: levels for an image of 160 px; an objectness that is
# scaled by that size (see the recipe's last lines); an earlier version of the assigner; mmdetection's form of SimOTA,
# where the recipe has Megvii's.
OF_THE_SCENE = {
    "recipe_fcos_mmdet": {"assigner.regress_ranges"},
    "recipe_yolov7_ota": {"loss.branch.weight"},
    "recipe_yolov8_ultralytics_8_3": {"assigner.flavour"},
    "recipe_yolox_mmdet": {"assigner.flavour", "assigner.center_radius"},
    "recipe_yolox_mmdet_l1": {"assigner.flavour", "assigner.center_radius"},
}
# ComputeLoss of YOLOv7 with YOLOv7's gains checks recipe=yolov5, which has other ones; one box without a distribution
# is no configuration of YOLOv8's.
OTHER_CONFIGURATIONS = {"recipe_yolov7_loss", "recipe_yolov8_ultralytics_regmax1"}
ITEMS = sorted(set(check_recipes.CHECKS) - OTHER_CONFIGURATIONS)


class Asked(Exception):
    """A check has said what it writes over the recipe."""


@dataclass(frozen=True)
class Case:
    recipe: str
    detector: str
    overrides: tuple[str, ...]


def asked(item: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    """The recipe of a case and what is written over it."""
    found: list[Case] = []

    def stage(recipe: str, detector: str, overrides: tuple[str, ...]) -> None:
        found.append(Case(recipe, detector, overrides))
        raise Asked

    monkeypatch.setattr(check_recipes, "stage", stage)
    with pytest.raises(Asked):
        check_recipes.CHECKS[item](load_case(HERE / f"{item}.npz", name))
    return found[0]


@cache
def composed(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def changed(case: Case, ours: DictConfig) -> dict[str, str]:
    """The overrides that say something else than the recipe, by key."""
    different = {}
    for override in case.overrides:
        key, _, text = override.partition("=")
        if "/" in key:  # an option of a group of losses
            node = key.replace("/", ".")
            option, own = OmegaConf.select(composed(override), node), OmegaConf.select(ours, node)
            same = OmegaConf.to_container(option) == OmegaConf.to_container(own)  # not resolved
        else:
            value = OmegaConf.select(ours, key)
            value = 1.0 if value is None and key.endswith("_weight") else value  # as conf/loss/pair.yaml says
            same = value == OmegaConf.create(f"value: {text}").value
        if not same:
            different[key] = text
    return different


@pytest.mark.parametrize("item", ITEMS)
def test_some_case_changes_nothing(item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = {}
    for name in case_names(HERE / f"{item}.npz"):
        case = asked(item, name, monkeypatch)
        different = changed(case, composed(f"detector={case.detector}", f"recipe={case.recipe}"))
        if set(different) <= OF_THE_SCENE.get(item, set()):
            return
        tried[name] = different
    raise AssertionError(f"{item}: no case keeps the recipe's numbers: {tried}")


def test_the_published_weight_of_a_distribution_is_that_of_its_recipe() -> None:
    """The reference takes .25 of the mean over the four sides, this project's loss is their sum."""
    ours = composed("detector=tiny_retinanet", "recipe=gfl").loss.terms.distribution.weight
    reference = load_case(HERE / "recipe_gfl.npz", "case0").params["bbox_head"]["loss_dfl"]["loss_weight"]
    assert DistributionFocalLoss.published_weight == {"dense": ours} == {"dense": reference / 4}


def test_a_wrong_number_is_seen() -> None:
    ours = composed("detector=tiny_retinanet", "recipe=paa", "loss.regression_weight=2.0")
    asked_for = Case("paa", "tiny_retinanet", ("loss/regression=giou", "loss.regression_weight=1.3", "assigner.topk=9"))
    assert changed(asked_for, ours) == {"loss.regression_weight": "1.3"}
