"""A part chosen beside a recipe is that part, with its own parameters and those of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.app.composition import composed
from harness.experiment.settings import GROUPS
from harness.runs.schema import folder
from tests.app.test_command_line import harness

CONF = folder("conf")


@pytest.mark.parametrize(
    ("recipe", "detector", "part", "option"),
    [
        ("pisa_retinanet", "tiny_retinanet", "sampler", "all"),
        ("pisa_retinanet", "tiny_retinanet", "sampler", "isr_p"),
        ("yolov3", "tiny_yolox", "loss.regression", "l1"),
        ("yolov5", "tiny_yolox", "loss.regression", "iou_square"),
        ("yolov8", "tiny_retinanet", "assigner", "atss"),
    ],
)
def test_it_is_the_option_as_without_the_recipe(recipe: str, detector: str, part: str, option: str) -> None:
    choice = f"{GROUPS[part]}={option}"
    with_recipe, _ = composed([f"recipe={recipe}", f"detector={detector}", choice])
    without, _ = composed([f"detector={detector}", choice])
    nodes = [OmegaConf.select(config, part) for config in (with_recipe, without)]
    assert OmegaConf.to_container(nodes[0], resolve=False) == OmegaConf.to_container(nodes[1], resolve=False)


def test_a_part_that_stays_keeps_what_the_recipe_says() -> None:
    chosen = ["recipe=tood", "detector=tiny_retinanet", "loss/classification=focal"]
    config, _ = composed(chosen)
    assert (config.assigner.topk, config.assigner.eps) == (13, 1e-7)
    config, _ = composed(["recipe=pisa_retinanet", "detector=tiny_retinanet", "loss/regression=giou"])
    assert config.sampler._target_.endswith("ISRPSampler")


def test_keys_of_the_command_line_stay() -> None:
    base = ["recipe=tood", "detector=tiny_retinanet", "assigner=atss"]
    assert OmegaConf.load(CONF / "assigner" / "atss.yaml").topk != 13
    config, _ = composed([*base, "assigner.topk=13"])
    assert config.assigner.topk == 13


def test_a_run_does_the_same(tmp_path: Path) -> None:
    arguments = ["recipe=pisa_ssd", "detector=tiny_ssd", "sampler=hard_negative", "mode=check"]
    answer = harness(tmp_path, *arguments)
    assert answer.returncode == 0, answer.stderr
