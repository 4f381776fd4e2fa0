"""Bipartite matching: every object takes one candidate, at the least total cost (DETR)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.bipartite import match_at_least_cost
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.pairwise_costs import of_labels
from harness.assigners.building_blocks.usable_predictions import Predicted, read_predictions
from harness.core import limits
from harness.core.boxes import pairwise_giou, pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import Assignment, Candidates, GroundTruth, Need

CLS_COSTS = ("probability", "focal")
BOX_FORMATS = ("xywh", "xyxy")
IOU_MODES = ("giou", "iou")
BYTES_PER_PAIR = 40


class HungarianAssigner:
    """The matcher of DETR (Carion et al. 2020, section 3.1): one candidate an object, every other one negative.

    **It leaves the device**: the costs of a batch go to the host in one copy, scipy solves image by image there, and
    the answer comes back. It waits for the device and does not compile.

    Args:
        cls_weight: of the classification cost.
        l1_weight: of the L1 distance of the boxes, as shares of the image.
        iou_weight: of the overlap cost.
        cls_cost: ``probability``, minus the score of the object's class (DETR), or ``focal``, the focal loss of the
            class less that of its absence (Deformable DETR, Sparse R-CNN).
        box_format: what the L1 distance compares, ``xywh`` (center and sides) or ``xyxy``.
        iou_mode: ``giou`` or ``iou``.
        focal_alpha: weight of the positive class in the focal cost.
        focal_gamma: its exponent.
        image_size: ``(height, width)`` px that the L1 distance divides by; ``None`` takes the farthest bottom and right
            side of an image's cells, which is the size of the padded image to half a cell, or of its proposals.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions.

    A candidate whose prediction is not finite takes no part. With fewer candidates than objects some objects go
    without. Computes in float32, solves in float64.
    """

    needs: frozenset[Need] = frozenset({Need.PREDICTIONS})
    one_to_one = True  # an object has one candidate: compatibility refuses candidates that are the objects themselves

    def __init__(
        self,
        cls_weight: float = 1.0,
        l1_weight: float = 5.0,
        iou_weight: float = 2.0,
        cls_cost: str = "probability",
        box_format: str = "xywh",
        iou_mode: str = "giou",
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        image_size: Sequence[int] | None = None,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.cls_weight = limits.at_least("cls_weight", cls_weight, 0)
        self.l1_weight = limits.at_least("l1_weight", l1_weight, 0)
        self.iou_weight = limits.at_least("iou_weight", iou_weight, 0)
        something_costs = cls_weight + l1_weight + iou_weight > 0
        limits.require(something_costs, "cls_weight", cls_weight, "above 0 where l1_weight and iou_weight are 0")
        self.cls_cost = limits.one_of("cls_cost", cls_cost, CLS_COSTS)
        self.box_format = limits.one_of("box_format", box_format, BOX_FORMATS)
        self.iou_mode = limits.one_of("iou_mode", iou_mode, IOU_MODES)
        self.focal_alpha = limits.between("focal_alpha", focal_alpha, 0, 1)
        self.focal_gamma = limits.at_least("focal_gamma", focal_gamma, 0)
        sized = image_size is None or (len(image_size) == 2 and min(image_size) > 0)
        limits.require(sized, "image_size", image_size, "a height and a width above 0, px, or null")
        self.image_size = None if image_size is None else tuple(image_size)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def costs(self, truth: GroundTruth, candidates: Candidates) -> dict[str, Tensor]:
        """The weighted terms ``classification``, ``l1`` and ``iou`` of the cost, each ``(*, G, N)``; finite."""
        predicted = read_predictions(candidates, "HungarianAssigner")
        boxes = truth.boxes.float()
        overlap = pairwise_giou if self.iou_mode == "giou" else pairwise_iou
        return {
            "classification": self._classification(predicted, truth.labels) * self.cls_weight,
            "l1": self._l1(boxes, predicted.boxes, self._scale(candidates)) * self.l1_weight,
            "iou": overlap(boxes, predicted.boxes) * -self.iou_weight,
        }

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        terms = self.costs(truth, candidates)
        usable = read_predictions(candidates, "HungarianAssigner").usable
        total = terms["classification"] + terms["l1"] + terms["iou"]
        matched = match_at_least_cost(total, truth.matchable, usable)
        return settle(matched, overlaps(truth, candidates, memory_bound=self.memory_bound).iou, candidates.valid)

    def _classification(self, predicted: Predicted, labels: Tensor) -> Tensor:
        if self.cls_cost == "probability":
            return of_labels(predicted.scores, labels).neg_()
        score, eps = predicted.scores, 1e-12
        negative = -(1 - score + eps).log() * (1 - self.focal_alpha) * score.pow(self.focal_gamma)
        positive = -(score + eps).log() * self.focal_alpha * (1 - score).pow(self.focal_gamma)
        return of_labels(positive - negative, labels)

    def _scale(self, candidates: Candidates) -> Tensor:
        """``(*, 1, 4)`` px: the width and height of the image, twice."""
        if self.image_size is not None:
            height, width = self.image_size
            return candidates.boxes.new_tensor((width, height, width, height), dtype=torch.float32)
        corners = candidates.boxes[..., 2:].float()
        if candidates.stride is not None:  # anchors reach past the border of the image
            corners = candidates.centers.float() + candidates.stride.float().unsqueeze(-1) / 2
        corners = torch.where(candidates.valid.unsqueeze(-1), corners, 0)
        if corners.shape[-2] == 0:
            return corners.new_ones(4)
        size = corners.amax(-2, keepdim=True).clamp(min=1)
        return torch.cat((size, size), -1)

    def _l1(self, objects: Tensor, candidates: Tensor, scale: Tensor) -> Tensor:
        if self.box_format == "xywh":
            objects, candidates = _centers_and_sides(objects), _centers_and_sides(candidates)
        return torch.cdist(objects / scale, candidates / scale, p=1)


def _centers_and_sides(boxes: Tensor) -> Tensor:
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), -1)
