"""The facts of a detector by the name of its builder, without paying for its weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from harness.criterion.compatibility import refusals
from harness.criterion.heads import HeadSpec
from harness.criterion.stage import StageComponents
from harness.detectors.equip import family_of, planned

PRETRAINING = ("weights", "weights_backbone")
SKETCHED_CLASSES = 2  # any number: what is refused does not depend on it


def sketch(target: str, num_classes: int, **options: Any) -> nn.Module:
    """The detector that ``target`` builds, on torch's ``meta`` device: shapes without memory, no download, 0.1 s.

    Args:
        target: dotted path of a builder, as in ``detector._target_``.
        num_classes: background included.
        options: further arguments of the builder; pretrained weights among them are ignored.

    Raises:
        ImportError: no such builder.
    """
    module, _, name = target.rpartition(".")
    try:
        builder = getattr(import_module(module), name)
    except (AttributeError, ValueError) as error:
        raise ImportError(f"detector._target_={target!r} does not exist: {error}") from None
    accepted = inspect.signature(builder).parameters
    options = {**options, **{option: None for option in PRETRAINING if option in accepted}}
    with torch.device("meta"):
        model: nn.Module = builder(num_classes=num_classes, **options)
    return model


# What a detector trains on beside boxes and labels, by the method of its RoI heads that says so.
EXTRA_TARGETS = {"has_mask": "masks", "has_keypoint": "keypoints"}


def extra_targets(model: nn.Module) -> frozenset[str]:
    """What a torchvision detector wants of a target beside ``boxes`` and ``labels``: ``masks``, ``keypoints``."""
    heads = getattr(model, "roi_heads", None)
    return frozenset(
        name for attribute, name in EXTRA_TARGETS.items() if callable(has := getattr(heads, attribute, None)) and has()
    )


def num_keypoints(model: nn.Module) -> int | None:
    """Keypoints of an object that the detector finds; None where it finds none."""
    predictor = getattr(getattr(model, "roi_heads", None), "keypoint_predictor", None)
    last = getattr(predictor, "kps_score_lowres", None)
    return None if last is None else int(last.out_channels)


def heads_for(target: str, num_classes: int, **options: Any) -> dict[str, HeadSpec]:
    """Stage -> facts of the detector that ``target`` builds; arguments as of :func:`sketch`."""
    model = sketch(target, num_classes, **options)
    return family_of(model).heads(model)


def refusals_for(
    target: str, root: StageComponents, stages: Mapping[str, StageComponents], /, **options: Any
) -> list[str]:
    """Why :func:`harness.detectors.equip.equip` would refuse these components in the detector that ``target`` builds.

    Args:
        target: dotted path of a builder, as in ``detector._target_``.
        root: the components of the root stage.
        stages: the components of other stages.
        options: further arguments of the builder, as of :func:`sketch`.

    Returns:
        One line per reason, none where they can train; a stage that the detector does not have is such a line, too.
    """
    try:
        return refusals(*planned(sketch(target, SKETCHED_CLASSES, **options), root, stages))
    except ValueError as error:
        return [str(error)]
