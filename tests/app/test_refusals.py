"""A value that cannot work is refused in one line that begins with its full key, whatever piece it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from harness.experiment.pieces import build, build_pieces
from harness.runs.identity import role_of
from harness.runs.roles import Role
from harness.runs.schema import ConfigError, HarnessConfig, folder

CONF = folder("conf")
GROUPS = ("assigner", "sampler", "loss", "loss/classification", "loss/regression", "augment")

# Wrong in every range; of a parameter that may be null, so that there is a value to refuse.
NULLABLE = {
    "center_sampling_radius": -1,
    "center_radius": 0,
    "regress_ranges": [[3, 1]],
    "image_size": [0, 10],
    "topk2": 0,
    "nms_thr": 2,
    "class_weight": [-1],
    "column_weight": [-1],
    "box_normalizer": "nonsense",
    "classification_weight": -1.0,
    "regression_weight": -1.0,
    "box_weight": "nonsense",
    "alpha": -1.0,
}
# What takes any value: a column's number.
FREE = {"ignore_index"}
# Its two parts take these numbers from it, and refuse them before it is made.
PARTS = {
    ("combined", "sampler.num"): "sampler.pos.num",
    ("combined", "sampler.pos_fraction"): "sampler.pos.pos_fraction",
}


def shared() -> dict[str, Any]:
    """The values of the schema that options refer to."""
    defaults = OmegaConf.to_container(OmegaConf.structured(HarnessConfig))
    assert isinstance(defaults, dict)
    return {str(name): value for name, value in defaults.items() if name == "run" or role_of(str(name)) is Role.SHARED}


NUMBERS = shared()


def mounted(group: str, option: str) -> DictConfig:
    """A configuration with that option where the user has it, and the numbers that it refers to."""
    piece = OmegaConf.load(CONF / group / f"{option}.yaml")
    if group.startswith("loss"):
        pair = OmegaConf.load(CONF / "loss" / "pair.yaml")
        for part, own in (("classification", "focal"), ("regression", "l1")):
            pair[part] = OmegaConf.load(CONF / "loss" / part / f"{own}.yaml")
        if "/" in group:
            pair[group.split("/")[1]] = piece
        piece = pair
    piece.pop("defaults", None)
    return OmegaConf.create({**NUMBERS, group.split("/")[0]: piece})


def wrong(value: object, name: str) -> Any:
    """A value of no valid range, or None where there is nothing to check."""
    if value is None:
        return NULLABLE[name] if name not in FREE else None
    if isinstance(value, bool) or name in FREE:
        return None
    if isinstance(value, str):
        return "nonsense"
    return float("nan") if isinstance(value, (int, float)) else [2, 1]


def cases() -> Iterator[tuple[str, str, str, Any]]:
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            if group != "loss" and "defaults" in OmegaConf.load(file):
                continue  # another option with one parameter changed
            key = group.replace("/", ".")
            node = OmegaConf.select(mounted(group, file.stem), key)
            for name, value in node.items():
                if name != "_target_" and not isinstance(value, DictConfig) and (bad := wrong(value, name)) is not None:
                    yield group, file.stem, f"{key}.{name}", bad


CASES = list(cases())


def refusal(config: DictConfig, key: str) -> str:
    """The line with which that node is refused."""
    with pytest.raises(ConfigError) as refused:
        build(OmegaConf.select(config, key), key)
    return str(refused.value)


@pytest.mark.parametrize(("group", "option", "key", "bad"), CASES, ids=[f"{c[1]}-{c[2]}" for c in CASES])
def test_the_line_begins_with_the_key(group: str, option: str, key: str, bad: Any) -> None:
    config = mounted(group, option)
    OmegaConf.update(config, key, bad)
    line = refusal(config, key.split(".")[0])
    assert line.startswith(f"{PARTS.get((option, key), key)}={bad!r} must be ")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("knob", "bad"),
    [("num_train", 0), ("num_val", 0), ("size", [1, 4]), ("crowding", 2), ("label_noise", -1), ("imbalance", "much")],
)
def test_of_the_data(knob: str, bad: Any, tmp_path: Path) -> None:
    config = OmegaConf.load(CONF / "data" / "shapes.yaml")
    config.data.update({knob: bad, "cache_dir": str(tmp_path)})
    assert refusal(config, "data").startswith(f"data.{knob}={bad!r} must be ")


def test_of_another_stage_and_of_a_part() -> None:
    stage = mounted("sampler", "combined")
    stage.sampler.neg.num_bins = 0
    assert refusal(OmegaConf.create({"rpn": stage}), "rpn.sampler") == (
        "rpn.sampler.neg.num_bins=0 must be a whole number of at least 1"
    )


def test_of_a_shadow() -> None:
    """It takes the place of the sampler, but the user knows it by another name."""
    config = OmegaConf.merge(
        mounted("assigner", "max_iou"),
        mounted("sampler", "all"),
        mounted("loss", "pair"),
        {
            "analysis": {"shadow": ["random"]},
            "image_sampler": {"_target_": "harness.data.image_samplers.UniformImageSampler"},
        },
    )
    assert isinstance(config, DictConfig)
    config.quota.num = 0
    with pytest.raises(ConfigError) as refused:
        build_pieces(config, [str(CONF)])
    assert str(refused.value) == "analysis.shadow[random].num=0 must be a whole number of at least 1"


def test_what_names_no_parameter_gets_the_node() -> None:
    config = OmegaConf.create({"loss": {"_target_": "harness.losses.pair.Loss"}})
    assert refusal(config, "loss").startswith("loss: Error in call to target 'harness.losses.pair.Loss'")
    config = OmegaConf.create({"data": {"_target_": "harness.data.sources.voc.voc", "root": "/nowhere"}})
    assert (
        refusal(config, "data") == "data: root: /nowhere is not a folder; valid: one with Annotations/ and JPEGImages/"
    )
