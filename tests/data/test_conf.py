"""conf/data and conf/augment say exactly what the constructors take."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, OmegaConf

from harness.data.augment.flip import Flip
from harness.data.splits import Splits
from tests.data.conftest import REPOSITORY

FILES = sorted([*(REPOSITORY / "conf" / "data").glob("*.yaml"), *(REPOSITORY / "conf" / "augment").glob("*.yaml")])


def node(path: Path) -> DictConfig:
    """What the file puts at `data`: a source that also sets the size ranges of the evaluation is a global package."""
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config.data if "data" in config else config


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_every_parameter_stands_in_the_yaml_with_its_default(path: Path) -> None:
    config = OmegaConf.to_container(node(path))
    assert isinstance(config, dict)
    name = config.pop("_target_")
    target = get_method(name) if path.parent.name == "data" else get_class(name)
    parameters = dict(inspect.signature(target).parameters)
    parameters.pop("augment", None)
    assert list(config) == list(parameters)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty:
            assert config[key] == "???"
        elif path.stem not in ("shapes_sparse", "mosaic_mixup_yolox"):  # another option's class, with other values
            expected = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert config[key] == expected


def test_the_sources() -> None:
    sources = [path.stem for path in FILES if path.parent.name == "data"]
    assert sources == ["coco", "lvis", "shapes", "shapes_sparse", "voc", "yolo"]


@pytest.mark.parametrize("name", ["shapes", "shapes_sparse"])
def test_shapes_with_an_augmentation_mounted(name: str, scene_cache: str) -> None:
    config = node(REPOSITORY / "conf" / "data" / f"{name}.yaml")
    config.merge_with({"num_train": 3, "num_val": 2, "cache_dir": scene_cache})
    config.augment = OmegaConf.load(REPOSITORY / "conf" / "augment" / "flip.yaml")
    splits = instantiate(config)
    assert isinstance(splits, Splits)
    assert isinstance(splits.augment, Flip)
    assert len(splits.train) == 3


def test_voc_takes_hydras_lists(write_voc) -> None:  # type: ignore[no-untyped-def]
    from tests.data.conftest import voc_object

    root = write_voc({"a": voc_object("cat", 1, 1, 9, 9), "b": ""}, {"train": ["a"], "val": ["b"]})
    config = OmegaConf.load(REPOSITORY / "conf" / "data" / "voc.yaml")
    config.merge_with({"root": str(root), "classes": ["cat", "dog"]})
    assert instantiate(config).classes == ("cat", "dog")
