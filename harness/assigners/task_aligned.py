"""Task-aligned assignment: every object takes the candidates that both classify and locate it best (TOOD, YOLOv8)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.assigners.building_blocks.alignment import normalized_alignment, power
from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.matching import highest_object, highest_pair, one_object_each
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.pairwise_costs import depth_in_boxes, of_labels
from harness.assigners.building_blocks.usable_predictions import Predicted, read_predictions
from harness.core import limits
from harness.core.boxes import aligned_ciou, aligned_iou, centers, pairwise_ciou, pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need
from harness.core.topk import highest_of_each

Named = tuple[Tensor, Tensor, Tensor]  # (*, G, k): candidates, whether they count (bool), their overlap

FLAVOURS = ("mmdet", "ultralytics", "ultralytics_8_3")
BYTES_PER_PAIR = 40


class TaskAlignedAssigner:
    """Task alignment learning (TOOD, Feng et al. 2021, section 3.2): ``score ** alpha * IoU ** beta``, the ``topk``
    best.

    The flavours differ in the overlap, in the order of the two filters, and in who wins a candidate that two objects
    take:

    - ``mmdet``: the IoU; the ``topk`` of all candidates, of which those with their center inside the object (by 0.01
      px) and a positive alignment count; the object of highest IoU among those that took the candidate.
    - ``ultralytics`` (8.4): the complete IoU, not below 0; the ``topk`` of the candidates inside; the object of highest
      overlap among all. An object with a side below the stride of the second level is enlarged to it for this test.
    - ``ultralytics_8_3``: the same without enlargement.

    Where fewer than ``topk`` candidates inside an object have any alignment, Ultralytics fills up with ones of
    alignment 0, in the order in which :func:`torch.topk` leaves equal values: positives whose quality, hence target, is
    0. So do these flavours; ``mmdet`` has no such positives, and its exact ties go to the lower index.

    ``quality`` is the normalized alignment of TOOD, equation 6: the alignment, scaled so that each object's best
    positive reaches the highest overlap among its positives.

    Args:
        topk: candidates an object may take; more than there are is all of them.
        alpha: exponent of the score.
        beta: exponent of the overlap.
        flavour: ``mmdet``, ``ultralytics`` or ``ultralytics_8_3``.
        topk2: of an object's positives, after conflicts, only so many stay (Ultralytics 8.4); ``None`` keeps all.
        eps: added to the best alignment when it divides (1e-9 in Ultralytics; mmdetection's TOOD head has 1e-7).
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions, or without strides where the
            flavour enlarges objects.

    A candidate whose prediction is not finite is never positive. Computes in float32.
    """

    gives_quality: ClassVar[bool] = True

    def __init__(
        self,
        topk: int = 13,
        alpha: float = 1.0,
        beta: float = 6.0,
        flavour: str = "mmdet",
        topk2: int | None = None,
        eps: float = 1e-9,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.topk = limits.count("topk", topk, 1)
        self.alpha = limits.at_least("alpha", alpha, 0)
        self.beta = limits.above("beta", beta, 0)
        self.flavour = limits.one_of("flavour", flavour, FLAVOURS)
        self.topk2 = limits.optional(limits.count, "topk2", topk2, 1)
        self.eps = limits.above("eps", eps, 0)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    @property
    def needs(self) -> frozenset[Need]:
        """Predictions; strides as well where tiny objects are enlarged."""
        enlarges = self.flavour == "ultralytics"
        return frozenset({Need.PREDICTIONS, Need.STRIDES} if enlarges else {Need.PREDICTIONS})

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def alignment(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, G, N)`` alignment, not normalized, and overlap of every pair; 0 for pairs that must not be."""
        return self._pairs(read_predictions(candidates, "TaskAlignedAssigner"), truth, candidates)

    def _pairs(self, predicted: Predicted, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        # Boxes that must not be are empty: they overlap nothing, without a pass over the pairs.
        boxes = torch.where(truth.matchable.unsqueeze(-1), truth.boxes.float(), 0)
        if self.flavour == "mmdet":
            overlap = pairwise_iou(boxes, predicted.boxes)
        else:
            overlap = pairwise_ciou(boxes, predicted.boxes).clamp_(min=0)
            enlarged = self._enlarged(boxes, candidates)
            overlap.mul_(depth_in_boxes(candidates.centers.float(), enlarged, truth.matchable) > self._margin)
        return of_labels(self._rated(predicted.scores), truth.labels).mul_(power(overlap, self.beta)), overlap

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        objects, count = truth.labels.shape[-1], candidates.valid.shape[-1]
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        rival = torch.zeros_like(candidates.valid, dtype=torch.int64)
        nothing = torch.zeros_like(candidates.valid, dtype=torch.float32)
        highest_overlap = nothing - 1
        if objects == 0 or count == 0:
            return settle(rival + NEGATIVE, max_iou, candidates.valid, nothing)
        predicted = read_predictions(candidates, "TaskAlignedAssigner")
        named: list[Named] = []
        parts = by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)
        for start, some in parts:
            alignment, overlap = self._pairs(predicted, some, candidates)
            named.append(self._name(predicted, some, candidates, alignment, overlap))
            if self.flavour != "mmdet":
                best = overlap.amax(-2)
                rival = torch.where(best > highest_overlap, highest_object(overlap) + start, rival)
                highest_overlap = torch.maximum(best, highest_overlap)
        index, chosen, overlap = (torch.cat(tables, -2) for tables in zip(*named, strict=True))
        if self.flavour == "mmdet":
            rival = highest_pair(index, chosen, overlap, count)
        gt_index = one_object_each(index, chosen, rival)
        alignment, overlap = self._own(predicted, truth, candidates, gt_index)
        if self.topk2 is not None:
            gt_index = _best_of_each(gt_index, alignment, objects, self.topk2)
        quality = normalized_alignment(alignment, overlap, gt_index, objects, self.eps)
        return settle(gt_index, max_iou, candidates.valid, quality)

    def _name(
        self, predicted: Predicted, truth: GroundTruth, candidates: Candidates, alignment: Tensor, overlap: Tensor
    ) -> Named:
        """The candidates that every object would take."""
        topk = min(self.topk, alignment.shape[-1])
        index = highest_of_each(alignment, topk) if self.flavour == "mmdet" else alignment.topk(topk).indices
        boxes = self._enlarged(truth.boxes.float(), candidates).unsqueeze(-2)
        x, y = (_at(row, index) for row in candidates.centers.float().unbind(-1))
        chosen = self._inside(x, y, boxes) & truth.matchable.unsqueeze(-1) & _at(predicted.usable, index)
        if self.flavour == "mmdet":
            chosen = chosen & (alignment.gather(-1, index) > 0)
        return index, chosen, overlap.gather(-1, index)

    def _own(
        self, predicted: Predicted, truth: GroundTruth, candidates: Candidates, gt_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``(*, N)`` alignment and overlap of every candidate with its own object, 0 where it has none."""
        slot = gt_index.clamp(min=0)
        boxes = truth.boxes.float().gather(-2, slot.unsqueeze(-1).expand(*slot.shape, 4))
        label = truth.labels.gather(-1, slot).unsqueeze(-1)
        if self.flavour == "mmdet":
            overlap = aligned_iou(boxes, predicted.boxes)
        else:
            overlap = aligned_ciou(boxes, predicted.boxes).clamp(min=0)
            x, y = candidates.centers.float().unbind(-1)
            overlap = overlap * self._inside(x, y, self._enlarged(boxes, candidates))
        overlap = overlap * (gt_index >= 0)
        score = self._rated(predicted.scores.gather(-1, label).squeeze(-1))
        return score * power(overlap, self.beta), overlap

    def _rated(self, scores: Tensor) -> Tensor:
        return scores if self.alpha == 1 else scores.pow(self.alpha)

    @property
    def _margin(self) -> float:
        """How far inside an object a center must lie, px."""
        return 0.01 if self.flavour == "mmdet" else 1e-9

    def _inside(self, x: Tensor, y: Tensor, boxes: Tensor) -> Tensor:
        sides = (x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y)
        return torch.stack(sides).amin(0) > self._margin

    def _enlarged(self, boxes: Tensor, candidates: Candidates) -> Tensor:
        """``(*, 4)`` the boxes that centers must lie in."""
        if self.flavour != "ultralytics":
            return boxes
        least = _second_stride(candidates.strides_for("TaskAlignedAssigner").float())
        center, side = centers(boxes), boxes[..., 2:] - boxes[..., :2]
        half = torch.maximum(side, least) / 2
        return torch.cat((center - half, center + half), -1)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """``(*, G, k)``: ``values (*, N)`` at the candidates ``index``."""
    return values.gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])


def _second_stride(strides: Tensor) -> Tensor:
    """Scalar: the second smallest of the levels' strides, the only one where there is one; 0 without candidates."""
    if strides.shape[-1] == 0:
        return strides.new_zeros(())
    smallest = strides.amin(-1)
    second = strides.masked_fill(strides <= smallest, torch.inf).amin(-1)
    return torch.where(second.isinf(), smallest, second)


def _best_of_each(gt_index: Tensor, alignment: Tensor, objects: int, k: int) -> Tensor:
    """``gt_index (*, N)`` with only the ``k`` positives of highest alignment of every object."""
    own = gt_index.unsqueeze(-2) == torch.arange(objects, device=gt_index.device).unsqueeze(-1)
    pairs = torch.where(own, alignment.unsqueeze(-2), -1)
    index = highest_of_each(pairs, min(k, gt_index.shape[-1]))
    chosen = own.gather(-1, index)
    return one_object_each(index, chosen, torch.full_like(gt_index, NEGATIVE))
