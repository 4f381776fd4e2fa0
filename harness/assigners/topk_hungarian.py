"""Top-k Hungarian matching: bipartite matching in which every object takes several candidates (DDQ)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.assigners.building_blocks.alignment import normalized_alignment, power
from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.bipartite import match_at_least_cost
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.usable_predictions import read_predictions
from harness.assigners.hungarian import HungarianAssigner
from harness.core import limits
from harness.core.boxes import aligned_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import Assignment, Candidates, GroundTruth, Need

BYTES_PER_PAIR = 40


class TopkHungarianAssigner:
    """The auxiliary dense matching of DDQ (Zhang et al. 2023, "Dense distinct query for end-to-end object detection").

    The costs are those of :class:`~harness.assigners.hungarian.HungarianAssigner` with the focal cost, the L1 distance
    of corners and the GIoU. Every object takes ``topk`` candidates, or as many as there are for each object where there
    are fewer. All others are negative. ``quality`` is the normalized alignment of TOOD, equation 6, of
    ``score ** alpha * IoU ** beta``.

    **It leaves the device**, waits for it and does not compile: scipy solves image by image on the host.

    The authors' pipeline hands probabilities to a cost that applies a sigmoid once more; here the cost is the focal
    cost of the probabilities themselves. Left out: DDQ's distinct queries (non-maximum suppression before the
    matching).

    Args:
        topk: candidates of an object.
        alpha: exponent of the score in the alignment.
        beta: exponent of the IoU in the alignment.
        cls_weight: of the classification cost.
        l1_weight: of the L1 distance of the boxes, as shares of the image.
        iou_weight: of the GIoU cost.
        image_size: ``(height, width)`` px that the L1 distance divides by; ``None`` as in ``HungarianAssigner``.
        eps: added to the best alignment when it divides.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions.

    A candidate whose prediction is not finite takes no part.
    """

    needs: frozenset[Need] = frozenset({Need.PREDICTIONS})

    def __init__(
        self,
        topk: int = 8,
        alpha: float = 1.0,
        beta: float = 6.0,
        cls_weight: float = 2.0,
        l1_weight: float = 5.0,
        iou_weight: float = 2.0,
        image_size: Sequence[int] | None = None,
        eps: float = 1e-7,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.topk = limits.count("topk", topk, 1)
        self.alpha = limits.at_least("alpha", alpha, 0)
        self.beta = limits.at_least("beta", beta, 0)
        self.eps = limits.above("eps", eps, 0)
        self.matcher = HungarianAssigner(
            cls_weight,
            l1_weight,
            iou_weight,
            cls_cost="focal",
            box_format="xyxy",
            iou_mode="giou",
            image_size=image_size,
            memory_bound=memory_bound,
        )
        self.memory_bound = self.matcher.memory_bound

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def alignment(self, truth: GroundTruth, candidates: Candidates, gt_index: Tensor) -> tuple[Tensor, Tensor]:
        """``(*, N)`` alignment, not normalized, and IoU of the predictions with the objects ``gt_index (*, N)``; 0
        where that is negative."""
        if truth.labels.shape[-1] == 0:
            nothing = torch.zeros_like(candidates.valid, dtype=torch.float32)
            return nothing, nothing
        predicted = read_predictions(candidates, "TopkHungarianAssigner")
        slot = gt_index.clamp(min=0)
        boxes = truth.boxes.float().gather(-2, slot.unsqueeze(-1).expand(*slot.shape, 4))
        overlap = aligned_iou(boxes, predicted.boxes) * (gt_index >= 0)
        score = predicted.scores.gather(-1, truth.labels.gather(-1, slot).unsqueeze(-1)).squeeze(-1)
        return score.pow(self.alpha) * power(overlap, self.beta) * (gt_index >= 0), overlap

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        terms = self.matcher.costs(truth, candidates)
        usable = read_predictions(candidates, "TopkHungarianAssigner").usable
        cost = terms["classification"] + terms["l1"] + terms["iou"]
        gt_index = match_at_least_cost(cost, truth.matchable, usable, self.topk)
        alignment, overlap = self.alignment(truth, candidates, gt_index)
        quality = normalized_alignment(alignment, overlap, gt_index, truth.labels.shape[-1], self.eps)
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        return settle(gt_index, max_iou, candidates.valid, quality)
