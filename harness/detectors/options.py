"""Whether a detector's options can be: refused before weights are downloaded and before any image is seen."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import EnumMeta
from pathlib import Path
from typing import Any, get_args

from torch import nn
from torchvision.models import detection, get_model_weights

from harness.core import limits


def check_sizes(model: nn.Module) -> None:
    """Refuses sides of the images that are no lengths, which torchvision keeps as they are until the first image.

    Raises:
        ValueError: the line names the option.
    """
    transform: Any = model.transform
    for size in transform.min_size:
        limits.count("min_size", size, 1)
    limits.count("max_size", transform.max_size, 1)


def check_weights(builder: str, options: Mapping[str, Any]) -> None:
    """Refuses names of pretrained weights that torchvision does not have, without a download.

    Args:
        builder: the name of the function that builds the detector, torchvision's where it is torchvision's detector.
        options: its arguments.

    Raises:
        ValueError: the line names the option and the names that there are.
    """
    host = getattr(detection, builder.replace("cascade_rcnn", "fasterrcnn"), None)
    weights, backbone = options.get("weights"), options.get("weights_backbone")
    if weights is not None and host is not None and not Path(str(weights)).is_file():
        _check_name("weights", weights, get_model_weights(host), "a file, null")
    if backbone is not None and host is not None:
        _check_name("weights_backbone", backbone, _backbone_weights(host), "null")
    elif backbone is not None and isinstance(options.get("backbone"), str):
        _check_name("weights_backbone", backbone, get_model_weights(options["backbone"]), "null")


def _check_name(option: str, name: str, known: EnumMeta, others: str) -> None:
    valid = list(dict.fromkeys(["DEFAULT", *known.__members__]))
    limits.require(name in valid, option, name, f"{others} or one of {', '.join(valid)}")


def _backbone_weights(host: Any) -> EnumMeta:
    annotation = inspect.signature(host).parameters["weights_backbone"].annotation
    return next(kind for kind in get_args(annotation) if isinstance(kind, EnumMeta))
