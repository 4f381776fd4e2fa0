"""torchvision's Faster, Mask and Keypoint R-CNN by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor
from torchvision.models.detection.keypoint_rcnn import KeypointRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNPredictor

from harness.detectors.zoo import pretrained


class RCNNPredictor:
    """The box predictor and, where there is one, the mask predictor."""

    def classes(self, state: Mapping[str, Tensor]) -> int:
        return state["roi_heads.box_predictor.cls_score.weight"].shape[0]

    def replace(self, model: Any, num_classes: int) -> None:
        roi = model.roi_heads
        roi.box_predictor = FastRCNNPredictor(roi.box_predictor.cls_score.in_features, num_classes)
        if roi.has_mask():
            convolution = roi.mask_predictor.conv5_mask
            roi.mask_predictor = MaskRCNNPredictor(convolution.in_channels, convolution.out_channels, num_classes)


build = partial(pretrained.build, RCNNPredictor())


def fasterrcnn_resnet50_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> FasterRCNN:
    """Faster R-CNN (Ren et al. 2015) with FPN (Lin et al. 2017); arguments as of ``pretrained.build``."""
    return build(detection.fasterrcnn_resnet50_fpn, num_classes, weights, weights_backbone, **options)


def fasterrcnn_resnet50_fpn_v2(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> FasterRCNN:
    """The same with the improved recipe of Li et al. 2021 (BatchNorm, a convolutional box head)."""
    return build(detection.fasterrcnn_resnet50_fpn_v2, num_classes, weights, weights_backbone, **options)


def fasterrcnn_mobilenet_v3_large_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> FasterRCNN:
    """The same on MobileNetV3-Large."""
    return build(detection.fasterrcnn_mobilenet_v3_large_fpn, num_classes, weights, weights_backbone, **options)


def fasterrcnn_mobilenet_v3_large_320_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> FasterRCNN:
    """The same for images of 320 px and fewer proposals."""
    return build(detection.fasterrcnn_mobilenet_v3_large_320_fpn, num_classes, weights, weights_backbone, **options)


def maskrcnn_resnet50_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> MaskRCNN:
    """Mask R-CNN (He et al. 2017); targets have ``masks (n, H, W)`` uint8."""
    return build(detection.maskrcnn_resnet50_fpn, num_classes, weights, weights_backbone, **options)


def maskrcnn_resnet50_fpn_v2(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> MaskRCNN:
    """Mask R-CNN with the improved recipe of Li et al. 2021."""
    return build(detection.maskrcnn_resnet50_fpn_v2, num_classes, weights, weights_backbone, **options)


def keypointrcnn_resnet50_fpn(
    num_classes: int = 2, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> KeypointRCNN:
    """Keypoint R-CNN (He et al. 2017, section 5); targets have ``keypoints (n, num_keypoints, 3)`` float."""
    return build(detection.keypointrcnn_resnet50_fpn, num_classes, weights, weights_backbone, **options)
