"""``load_detector``: the detector that a finished run trained, as the run evaluated it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from harness.detectors.facts import PRETRAINING
from harness.detectors.zoo.pretrained import freeze_as_trained
from harness.experiment.pieces import build, build_pieces
from harness.experiment.stored import stored_config
from harness.runs.folder import RunFolder
from harness.training import checkpoint
from harness.training.streams import Streams


def load_detector(run: str | os.PathLike[str], *, trust: Sequence[str] = ()) -> tuple[nn.Module, tuple[str, ...]]:
    """The detector of a finished run, on the CPU and in evaluation mode, and the names of its classes.

    It detects what the run detected: scores follow the run's loss of the classes (a sigmoid where the loss is one),
    and layers whose statistics were frozen in the training are frozen. Neither the data nor pretrained weights are
    read.

    Args:
        run: the run's folder.
        trust: modules of classes of your own that the run used, such as ``my_samplers``; a run folder could name any
            function, so that only the options of ``conf/`` are accepted without.

    Returns:
        The detector, called as torchvision's are, ``detector([image (3, H, W) in [0, 1], ...])``; and the class names:
        label ``i`` of a detection is ``classes[i - 1]``.

    Raises:
        FileNotFoundError: not the folder of a finished run.
        harness.runs.schema.ConfigError: a damaged configuration, or a class that is not trusted; the line names it.
        harness.training.checkpoint.CheckpointError: ``model.pt`` is damaged.
    """
    folder = Path(run).expanduser()
    for name in ("config.yaml", "result.json", "model.pt"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a finished run: it has no {name}")
    config, _ = stored_config(folder, trust)
    classes = tuple(RunFolder(folder).result()["data"]["classes"])
    state = checkpoint.load(folder / "model.pt")
    detector: nn.Module = build(_without_pretraining(config.detector), "detector", num_classes=len(classes) + 1)
    freeze_as_trained(detector, state, config.detector._target_, config.detector.get("weights"))
    config.analysis.shadow = []
    streams = Streams(config.seed, torch.device("cpu"))
    twin = build_pieces(config, sources=[]).equip(detector, streams)
    twin.load_state_dict(state)
    return twin.eval(), classes


def _without_pretraining(detector: DictConfig) -> DictConfig:
    """The detector's node without pretrained weights, which those of the run replace."""
    node = detector.copy()
    for name in (*PRETRAINING, "trainable_backbone_layers"):
        if name in node:
            node[name] = None
    return node
