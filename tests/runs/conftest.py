"""Small runs inside the test process: what the command line does, without paying for a new interpreter each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from harness.app.runner import run
from harness.runs import schema
from harness.runs.folder import RunFolder
from harness.runs.records import read_json
from harness.training.interrupt import StopSignals

SMALL = (
    "run=smoke",
    "run.threads=1",
    "tracker=none",
    "data.num_train=12",
    "data.num_val=4",
    "data.image_size=64",
    "detector.min_size=64",
    "run.iterations=6",
    "run.log_every=2",
    "run.keep=all",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The runs set torch's threads; other tests get theirs back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn scenes of this session."""
    return tmp_path_factory.mktemp("scenes")


Composed = Callable[..., DictConfig]


def small_config(root: Path, cache: Path, *overrides: str) -> DictConfig:
    """The configuration of a small run below ``root``."""
    schema.register()
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3"):
        fixed = [*SMALL, f"run.root={root}", f"data.cache_dir={cache}"]
        return compose("config", overrides=[*fixed, *overrides])


@pytest.fixture
def composed(tmp_path: Path, cache: Path) -> Composed:
    """``composed("sampler=ohem", root="a")``: the configuration of a small run."""

    def make(*overrides: str, root: str = "results") -> DictConfig:
        return small_config(tmp_path / root, cache, *overrides)

    return make


Trained = Callable[..., Path]


@pytest.fixture
def trained(composed: Composed) -> Trained:
    """``trained("sampler=ohem")``: the folder of a finished small run."""

    def make(*overrides: str, root: str = "results") -> Path:
        choices = {"detector": "tiny_rcnn", "sampler": "chosen", "data": "shapes"}
        config = composed(*overrides, root=root)
        with StopSignals() as stop:
            return run(config, choices=choices, sources=[str(schema.folder("conf"))], stop=stop).folder

    return make


def outcome(folder: Path) -> dict[str, Any]:
    """What two identical runs agree on: the result without its cost, and the detections."""
    result = read_json(folder / "result.json")
    del result["cost"]
    return {"result": result, "detections": RunFolder(folder).detections()}
