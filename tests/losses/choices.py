"""Every loss that ``conf/loss`` offers, built as Hydra would build it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from harness.core.structures import ClassCounts

CONF = Path(__file__).parents[2] / "conf"
CLASSIFICATION = sorted(path.stem for path in (CONF / "loss" / "classification").glob("*.yaml"))
REGRESSION = sorted(path.stem for path in (CONF / "loss" / "regression").glob("*.yaml"))


@cache
def node(group: str, name: str) -> DictConfig:
    """The choice's own node, at its place below a stage."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        stage = compose(f"loss/{group}/{name}")
    OmegaConf.set_struct(stage, False)
    stage.smooth_l1_beta = 1 / 9  # of the detector
    return stage.loss[group]


def class_counts(columns: int) -> ClassCounts:
    """A long tail over the columns, rare classes among them."""
    images = torch.tensor([200, 3, 60, 1, 12, 150, 7])[torch.arange(columns) % 7]
    return ClassCounts(images, 2 * images, num_images=1000)


def build(group: str, name: str, columns: int = 0) -> Any:
    """The loss, in training mode, prepared for so many columns."""
    loss = instantiate(node(group, name))
    if group == "classification":
        loss.prepare(columns)
        loss.set_class_counts(class_counts(columns))
    return loss
