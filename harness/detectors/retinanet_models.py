"""torchvision's RetinaNets by name."""

from __future__ import annotations

from typing import Any

from torchvision.models import detection
from torchvision.models.detection import RetinaNet

from harness.detectors.dense_predictor import TowerPredictor
from harness.detectors.pretrained import build


def retinanet_resnet50_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> RetinaNet:
    """RetinaNet (Lin et al. 2017); arguments as in :func:`harness.detectors.pretrained.build`."""
    return _build(detection.retinanet_resnet50_fpn, num_classes, weights, weights_backbone, options)


def retinanet_resnet50_fpn_v2(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> RetinaNet:
    """The same with GroupNorm in the towers and the GIoU loss (Zhang et al. 2020's recipe)."""
    return _build(detection.retinanet_resnet50_fpn_v2, num_classes, weights, weights_backbone, options)


def _build(
    host: Any, num_classes: int, weights: str | None, weights_backbone: str | None, options: dict[str, Any]
) -> Any:
    return build(
        host,
        TowerPredictor(),
        num_classes=num_classes,
        weights=weights,
        weights_backbone=weights_backbone,
        **options,
    )
