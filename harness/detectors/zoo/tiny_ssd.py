"""An SSD that learns from scratch in two minutes on two cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDHead

from harness.detectors.networks.tiny_backbone import tiny_fpn


def tiny_ssd(
    num_classes: int,
    *,
    channels: int = 64,
    levels: Sequence[int] = (8, 16),
    image_size: int = 128,
    anchor_sizes: Sequence[float] = (20.0, 40.0, 80.0),
    score_thresh: float = 0.02,
    detections_per_img: int = 50,
    **options: Any,
) -> SSD:
    """torchvision's SSD on the tiny pyramid.

    Args:
        num_classes: K + 1, with the background.
        channels: of the pyramid.
        levels: strides of the pyramid, px.
        image_size: of both sides, px; images of another size are resized to it.
        anchor_sizes: side of the square default boxes of each level, px, and one more: a level also has the geometric
            mean of its own and the next.
        score_thresh: of the detections.
        detections_per_img: at most so many.
        options: further parameters of torchvision's SSD.

    Raises:
        ValueError: ``anchor_sizes`` is not one longer than ``levels``.
    """
    if len(anchor_sizes) != len(levels) + 1:
        raise ValueError(f"anchor_sizes={list(anchor_sizes)} must be one longer than levels={list(levels)}")
    anchors = DefaultBoxGenerator([[] for _ in levels], scales=[size / image_size for size in anchor_sizes])
    return SSD(
        tiny_fpn(channels, levels),
        anchors,
        (image_size, image_size),
        num_classes,
        head=SSDHead([channels] * len(levels), anchors.num_anchors_per_location(), num_classes),
        score_thresh=score_thresh,
        detections_per_img=detections_per_img,
        **options,
    )
