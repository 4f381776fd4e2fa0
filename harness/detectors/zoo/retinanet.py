"""torchvision's RetinaNets by name."""

from __future__ import annotations

from functools import partial
from typing import Any

from torchvision.models import detection
from torchvision.models.detection import RetinaNet

from harness.detectors.zoo import pretrained
from harness.detectors.zoo.dense_predictor import TowerPredictor

build = partial(pretrained.build, TowerPredictor())


def retinanet_resnet50_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> RetinaNet:
    """RetinaNet (Lin et al. 2017); arguments as in :func:`harness.detectors.zoo.pretrained.build`."""
    return build(detection.retinanet_resnet50_fpn, num_classes, weights, weights_backbone, **options)


def retinanet_resnet50_fpn_v2(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> RetinaNet:
    """The same with GroupNorm in the towers and the GIoU loss (Zhang et al. 2020's recipe)."""
    return build(detection.retinanet_resnet50_fpn_v2, num_classes, weights, weights_backbone, **options)
