"""Building torchvision's detectors with or without pretrained weights, for any number of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.ops import FrozenBatchNorm2d

# Where torchvision sets the epsilon of the frozen layers to 0 after it has loaded COCO_V1, as these were trained.
WITHOUT_EPS = (
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn",
)


class DetectorError(RuntimeError):
    """A detector that cannot be built as asked: weights that cannot be had, a checkpoint of another architecture."""


class Predictor(Protocol):
    """How a family's class predictor is counted and replaced."""

    def classes(self, state: Mapping[str, Tensor]) -> int:
        """The number of classes, background included, in a state dict of the family."""

    def replace(self, model: Any, num_classes: int) -> None:
        """Puts a fresh predictor of ``num_classes`` in place of the trained one, as torchvision's tutorials do."""


def build(
    predictor: Predictor,
    host: Callable[..., nn.Module],
    num_classes: int,
    weights: str | None = None,
    weights_backbone: str | None = None,
    **options: Any,
) -> Any:
    """One of torchvision's detectors.

    Args:
        predictor: counts and replaces the family's class predictor.
        host: torchvision's builder.
        num_classes: background included.
        weights: ``None``, a name (``DEFAULT``, ``COCO_V1``) or the path of a checkpoint: a state dict, or a dictionary
            that holds one under ``model``. Trained weights of another number of classes keep all but the predictor.
        weights_backbone: ``None`` or a name (``DEFAULT``, ``IMAGENET1K_V1``); not used with ``weights``.
        options: the builder's own, ``None`` where its default holds.

    Raises:
        ValueError: a name that does not exist and is no file.
        DetectorError: no network, or a checkpoint of another architecture.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if weights is not None and weights not in (names := [*get_model_weights(host).__members__, "DEFAULT"]):
        if not Path(weights).is_file():
            raise ValueError(
                f"detector.weights={weights!r} is neither a file nor one of null, {', '.join(dict.fromkeys(names))}"
            )
        return _from_checkpoint(host, predictor, num_classes, Path(weights), options)
    asked = weights or weights_backbone
    try:
        if weights is None:
            return host(weights=None, weights_backbone=weights_backbone, num_classes=num_classes, **options)
        model = host(weights=weights, **options)
    except KeyError as error:
        raise ValueError(f"detector.weights_backbone={weights_backbone!r} does not exist: {error}") from None
    except (OSError, HTTPException) as error:
        raise DetectorError(
            f"pretrained weights {asked} could not be downloaded ({error}); "
            "choose detector.weights=null or the path of a checkpoint"
        ) from error
    if predictor.classes(model.state_dict()) != num_classes:
        predictor.replace(model, num_classes)
    return model


def _from_checkpoint(
    host: Callable[..., nn.Module], predictor: Predictor, num_classes: int, path: Path, options: dict[str, Any]
) -> nn.Module:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        state: dict[str, Tensor] = loaded.get("model", loaded)
        trained = predictor.classes(state)
    except Exception as error:  # torch.load raises whatever its unpickler meets
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DetectorError(f"detector.weights={path}: not a checkpoint of {host.__name__} ({reason})") from error
    layers = options.pop("trainable_backbone_layers", None)
    if layers is not None:
        raise ValueError(
            "detector.trainable_backbone_layers goes with named weights only, not with a checkpoint's path"
        )
    model = host(weights=None, weights_backbone=None, num_classes=trained, **options)
    if not any(key.endswith("num_batches_tracked") for key in state):
        freeze_batch_norm(model)  # the checkpoint was trained with frozen statistics, as torchvision's first ones are
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise DetectorError(f"detector.weights={path} does not fit {host.__name__}: {reason}") from error
    if trained != num_classes:
        predictor.replace(model, num_classes)
    return model


def freeze_as_trained(model: nn.Module, state: Mapping[str, Tensor], builder: str, weights: str | None) -> None:
    """Makes a detector that was built without pretrained weights normalize as the one that ``state`` is of.

    Args:
        model: the detector.
        state: weights of the same detector, perhaps built with pretrained weights and then trained.
        builder: dotted path of the function that built it.
        weights: what it was called with.
    """
    if any(key.endswith("num_batches_tracked") for key in state):
        return
    freeze_batch_norm(model)
    if builder.rpartition(".")[2] in WITHOUT_EPS and weights in ("DEFAULT", "COCO_V1"):
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 0.0


def freeze_batch_norm(model: nn.Module) -> None:
    """Replaces every ``BatchNorm2d`` below ``model`` by torchvision's frozen one."""
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(model, name, FrozenBatchNorm2d(child.num_features, eps=child.eps))
        else:
            freeze_batch_norm(child)
