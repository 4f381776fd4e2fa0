"""A Faster R-CNN of 0.9 M parameters that learns the embedded data from scratch in two minutes on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead

from harness.detectors.networks.point_roi_align import PointRoIAlign
from harness.detectors.networks.tiny_backbone import tiny_fpn

BINS = 5  # per side of a pooled box; from stride 8, where torchvision's rule of levels puts all boxes below 224 px


def tiny_rcnn(
    num_classes: int,
    *,
    channels: int = 64,
    representation_size: int = 256,
    anchor_sizes: Sequence[Sequence[float]] = ((20.0, 28.3), (40.0, 56.6)),
    min_size: int = 128,
    max_size: int = 512,
    proposals: int = 150,
    score_thresh: float = 0.02,
    detections_per_img: int = 50,
    **options: Any,
) -> FasterRCNN:
    """torchvision's Faster R-CNN on :func:`~harness.detectors.networks.tiny_backbone.tiny_fpn`.

    Args:
        num_classes: K + 1, with the background.
        channels: of the pyramid.
        representation_size: width of the two fully connected layers.
        anchor_sizes: sides of the square anchors, px, level by level (strides 8 and 16).
        min_size: images are rescaled to this shorter side, px; the embedded images have it already.
        max_size: bound of the longer side, px.
        proposals: per image after NMS, in training and evaluation; twice as many before.
        score_thresh: of the detections.
        detections_per_img: at most so many.
        options: further parameters of torchvision's FasterRCNN.
    """
    parts = tiny_rcnn_parts(num_classes, channels, representation_size, anchor_sizes, proposals)
    return FasterRCNN(
        min_size=min_size,
        max_size=max_size,
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
        **{**parts, **options},
    )


def tiny_rcnn_parts(
    num_classes: int,
    channels: int,
    representation_size: int,
    anchor_sizes: Sequence[Sequence[float]],
    proposals: int,
) -> dict[str, Any]:
    """Backbone, RPN and box head of :func:`tiny_rcnn`, as arguments of torchvision's FasterRCNN and its subclasses."""
    return {
        "backbone": tiny_fpn(channels, (8, 16)),
        "rpn_anchor_generator": AnchorGenerator(tuple(map(tuple, anchor_sizes)), ((1.0,),) * len(anchor_sizes)),
        "rpn_pre_nms_top_n_train": 2 * proposals,
        "rpn_pre_nms_top_n_test": 2 * proposals,
        "rpn_post_nms_top_n_train": proposals,
        "rpn_post_nms_top_n_test": proposals,
        "rpn_batch_size_per_image": 64,
        "box_batch_size_per_image": 64,
        "box_roi_pool": PointRoIAlign("0", BINS),
        "box_head": TwoMLPHead(channels * BINS**2, representation_size),
        "box_predictor": FastRCNNPredictor(representation_size, num_classes),
    }
