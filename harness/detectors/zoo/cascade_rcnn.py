"""Cascade R-CNN by name: on ResNet-50 with FPN, and the small one."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.detection.faster_rcnn import FasterRCNN, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads

from harness.detectors.adapters.cascade import CascadeRCNN
from harness.detectors.networks.cascade_heads import STAGES, CascadeRoIHeads, ClassAgnosticPredictor
from harness.detectors.zoo.rcnn import fasterrcnn_resnet50_fpn
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn


def cascade_rcnn_resnet50_fpn(
    num_classes: int, weights: str | None = None, weights_backbone: str | None = None, **options: Any
) -> CascadeRCNN:
    """Cascade R-CNN (Cai & Vasconcelos 2018) over torchvision's Faster R-CNN.

    Args:
        num_classes: background included.
        weights: Faster R-CNN's, as in :func:`harness.detectors.zoo.pretrained.build`: transform, backbone and RPN keep
            them, the three stages start from scratch.
        weights_backbone: as there.
        options: of ``FasterRCNN``.
    """
    return cascade_of(fasterrcnn_resnet50_fpn(num_classes, weights, weights_backbone, **options), num_classes)


def tiny_cascade(num_classes: int, **options: Any) -> CascadeRCNN:
    """Cascade R-CNN over :func:`~harness.detectors.zoo.tiny_rcnn.tiny_rcnn`, whose arguments it takes."""
    return cascade_of(tiny_rcnn(num_classes, **options), num_classes)


def cascade_of(model: FasterRCNN, num_classes: int) -> CascadeRCNN:
    """A cascade of three fresh stages on the transform, the backbone and the RPN of ``model``.

    Raises:
        TypeError: the box head of ``model`` is not torchvision's ``TwoMLPHead``.
    """
    roi: RoIHeads = model.roi_heads
    head = roi.box_head
    if not isinstance(head, TwoMLPHead):
        raise TypeError(f"a cascade copies a TwoMLPHead three times, the model has a {type(head).__name__}")
    inputs, width = head.fc6.in_features, head.fc6.out_features
    box_heads: list[nn.Module] = [TwoMLPHead(inputs, width) for _ in STAGES]
    cascade = CascadeRoIHeads(
        roi.box_roi_pool,
        box_heads,
        [ClassAgnosticPredictor(width, num_classes) for _ in STAGES],
        num_classes,
        batch_size_per_image=roi.fg_bg_sampler.batch_size_per_image,
        positive_fraction=roi.fg_bg_sampler.positive_fraction,
        score_thresh=roi.score_thresh,
        nms_thresh=roi.nms_thresh,
        detections_per_img=roi.detections_per_img,
    )
    return CascadeRCNN(model.backbone, model.rpn, cascade, model.transform)
