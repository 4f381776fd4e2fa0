"""Mask and Keypoint R-CNN on the backbone of ``tiny_rcnn``: they learn the embedded data from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection.keypoint_rcnn import KeypointRCNN, KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor

from harness.detectors.networks.point_roi_align import PointRoIAlign
from harness.detectors.zoo.tiny_rcnn import tiny_rcnn_parts

MASK_BINS = 14  # per side of a pooled box; the mask has twice as many pixels, as in He et al. 2017, figure 4
KEYPOINT_BINS = 14  # the heat map has four times as many
WIDTH = 64  # channels of the branches' convolutions


def tiny_maskrcnn(
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
) -> MaskRCNN:
    """torchvision's Mask R-CNN (He et al. 2017) with a branch of two convolutions on ``tiny_rcnn``.

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
        options: further parameters of torchvision's MaskRCNN.
    """
    parts = tiny_rcnn_parts(num_classes, channels, representation_size, anchor_sizes, proposals)
    return MaskRCNN(
        min_size=min_size,
        max_size=max_size,
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
        mask_roi_pool=PointRoIAlign("0", MASK_BINS),
        mask_head=MaskRCNNHeads(channels, (WIDTH, WIDTH), 1),
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, num_classes),
        **parts,
        **options,
    )


def tiny_keypointrcnn(
    num_classes: int,
    *,
    num_keypoints: int = 5,
    channels: int = 64,
    representation_size: int = 256,
    anchor_sizes: Sequence[Sequence[float]] = ((20.0, 28.3), (40.0, 56.6)),
    min_size: int = 128,
    max_size: int = 512,
    proposals: int = 150,
    score_thresh: float = 0.02,
    detections_per_img: int = 50,
    **options: Any,
) -> KeypointRCNN:
    """torchvision's Keypoint R-CNN (He et al. 2017, section 5) with a branch of two convolutions on ``tiny_rcnn``.

    Args:
        num_classes: K + 1, with the background.
        num_keypoints: of an object; the embedded figures have 5.
        channels: of the pyramid.
        representation_size: width of the two fully connected layers.
        anchor_sizes: sides of the square anchors, px, level by level (strides 8 and 16).
        min_size: images are rescaled to this shorter side, px; the embedded images have it already.
        max_size: bound of the longer side, px.
        proposals: per image after NMS, in training and evaluation; twice as many before.
        score_thresh: of the detections.
        detections_per_img: at most so many.
        options: further parameters of torchvision's KeypointRCNN.
    """
    parts = tiny_rcnn_parts(num_classes, channels, representation_size, anchor_sizes, proposals)
    return KeypointRCNN(
        min_size=min_size,
        max_size=max_size,
        box_score_thresh=score_thresh,
        box_detections_per_img=detections_per_img,
        keypoint_roi_pool=PointRoIAlign("0", KEYPOINT_BINS),
        keypoint_head=KeypointRCNNHeads(channels, (WIDTH, WIDTH)),
        keypoint_predictor=KeypointRCNNPredictor(WIDTH, num_keypoints),
        **parts,
        **options,
    )
