"""From class scores to detections, where torchvision's own RoI head would take a softmax of the logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from harness.core.structures import Activation
from harness.losses.interface import ClassificationLoss


def is_plain_softmax(loss: ClassificationLoss) -> bool:
    """Whether probabilities are the softmax of the logits and nothing else, as torchvision takes them."""
    return loss.activation is Activation.SOFTMAX and type(loss).activation_of is ClassificationLoss.activation_of


def class_detections(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    *,
    score_thresh: float,
    nms_thresh: float,
    limit: int,
    min_size: float = 1e-2,
) -> tuple[Tensor, Tensor, Tensor]:
    """The detections of one image: every class of every candidate is one, suppressed class by class.

    Args:
        boxes: ``(N, K, 4)`` decoded, one for each foreground class; px.
        scores: ``(N, K)`` foreground probabilities.
        image_shape: (height, width); boxes are clipped to it.
        score_thresh: only scores above it count.
        nms_thresh: IoU from which the lower score is dropped.
        limit: the best so many are kept.
        min_size: px; smaller sides are dropped.

    Returns:
        boxes ``(n, 4)``, scores ``(n,)`` descending, labels ``(n,)`` from 1.
    """
    labels = torch.arange(1, scores.shape[-1] + 1, device=scores.device).expand_as(scores)
    chosen = scores > score_thresh
    boxes, scores, labels = clip_boxes_to_image(boxes[chosen], image_shape), scores[chosen], labels[chosen]
    keep = remove_small_boxes(boxes, min_size)
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    keep = batched_nms(boxes, scores, labels, nms_thresh)[:limit]
    return boxes[keep], scores[keep], labels[keep]
