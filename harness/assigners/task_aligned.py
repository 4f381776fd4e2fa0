"""Task-aligned assignment: every object takes the candidates that both classify and locate it best (TOOD, YOLOv8)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.chunking import MEMORY_BOUND, by_images, check_memory_bound
from harness.assigners.costs import best_iou, depth_in_boxes, of_labels
from harness.assigners.predicted import Predicted, read_predictions, read_strides, settled
from harness.assigners.top_pairs import lowest, lowest_object, one_object_each
from harness.boxes import pairwise_ciou, pairwise_iou
from harness.types import NEGATIVE, Assignment, Candidates, GroundTruth, Need

FLAVOURS = ("mmdet", "ultralytics", "ultralytics_8_3")
_BYTES_PER_PAIR = 40


class TaskAlignedAssigner:
    """Task alignment learning (TOOD, Feng et al. 2021, section 3.2): ``score ** alpha * IoU ** beta``, the ``topk`` best.

    The flavours differ in the overlap, in the order of the two filters, and in who wins a candidate that two objects take:

    - ``mmdet``: the IoU; the ``topk`` of all candidates, of which those with their centre inside the object (by 0.01 px)
      and a positive alignment count; the object of highest IoU among those that took the candidate.
    - ``ultralytics`` (8.4): the complete IoU, not below 0; the ``topk`` of the candidates inside; the object of highest
      overlap among all. An object with a side below the stride of the second level is enlarged to it for this test.
    - ``ultralytics_8_3``: the same without enlargement.

    Where fewer than ``topk`` candidates inside an object have any alignment, Ultralytics fills up with ones of alignment 0,
    in the order in which :func:`torch.topk` leaves equal values: positives whose quality, hence target, is 0. So do these
    flavours; ``mmdet`` has no such positives, and its exact ties go to the lower index.

    ``quality`` is the normalised alignment of TOOD, equation 6: the alignment, scaled so that each object's best positive
    reaches the highest overlap among its positives.

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
        if flavour not in FLAVOURS:
            raise ValueError(f"flavour must be one of {', '.join(FLAVOURS)}, got {flavour!r}")
        if topk < 1 or (topk2 is not None and topk2 < 1):
            raise ValueError(f"topk and topk2 must be at least 1, got {topk} and {topk2}")
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha and beta must not be negative, got {alpha} and {beta}")
        if eps <= 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.topk = topk
        self.alpha = alpha
        self.beta = beta
        self.flavour = flavour
        self.topk2 = topk2
        self.eps = eps
        self.memory_bound = check_memory_bound(memory_bound)

    @property
    def needs(self) -> frozenset[Need]:
        """Predictions; strides as well where tiny objects are enlarged."""
        enlarges = self.flavour == "ultralytics"
        return frozenset({Need.PREDICTIONS, Need.STRIDES} if enlarges else {Need.PREDICTIONS})

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        return by_images(
            self._assign, truth, candidates, bytes_per_pair=_BYTES_PER_PAIR, memory_bound=self.memory_bound
        )

    def alignment(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, G, N)`` alignment, not normalised, and overlap of every pair; 0 for pairs that must not be."""
        predicted = read_predictions(candidates, "TaskAlignedAssigner")
        boxes = truth.boxes.float()
        if self.flavour == "mmdet":
            overlap = pairwise_iou(boxes, predicted.boxes)
            overlap.mul_(truth.matchable.unsqueeze(-1)).mul_(predicted.usable.unsqueeze(-2))
        else:
            overlap = pairwise_ciou(boxes, predicted.boxes).clamp_(min=0)
            overlap.mul_(self._inside(truth, candidates)).mul_(predicted.usable.unsqueeze(-2))
        return self._align(predicted, truth.labels, overlap), overlap

    def _align(self, predicted: Predicted, labels: Tensor, overlap: Tensor) -> Tensor:
        scores = of_labels(predicted.scores.pow(self.alpha), labels)
        return scores.mul_(_power(overlap, self.beta)).mul_(overlap > 0)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = best_iou(truth, candidates)
        if truth.labels.shape[-1] == 0 or candidates.valid.shape[-1] == 0:
            nothing = torch.full_like(candidates.valid, NEGATIVE, dtype=torch.int64)
            return Assignment(settled(nothing, candidates), max_iou, torch.zeros_like(max_iou))
        alignment, overlap = self.alignment(truth, candidates)
        topk = min(self.topk, alignment.shape[-1])
        if self.flavour == "mmdet":
            index = lowest(alignment.neg(), topk)
            inside = depth_in_boxes(candidates.centers.float(), truth.boxes.float(), truth.matchable) > 0.01
            chosen = (alignment.gather(-1, index) > 0) & inside.gather(-1, index)
            taken = torch.zeros_like(overlap).scatter_(-1, index, overlap.gather(-1, index) * chosen)
            rival = lowest_object(taken.neg_())
        else:
            index = alignment.topk(topk).indices
            chosen = self._inside(truth, candidates).gather(-1, index)
            rival = lowest_object(overlap.neg())
        gt_index = one_object_each(index, chosen, rival)
        own_alignment, own_overlap = _own(alignment, gt_index), _own(overlap, gt_index)
        if self.topk2 is not None:
            gt_index = _best_of_each(gt_index, own_alignment, truth.labels.shape[-1], self.topk2)
        quality = self._normalised(own_alignment, own_overlap, gt_index, truth.labels.shape[-1])
        return Assignment(settled(gt_index, candidates), max_iou, quality)

    def _inside(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` bool: the candidate's centre lies in the object, enlarged where the flavour does so."""
        boxes = truth.boxes.float()
        if self.flavour == "ultralytics":
            center, side = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
            half = torch.maximum(side, _second_stride(read_strides(candidates, "TaskAlignedAssigner"))) / 2
            boxes = torch.cat((center - half, center + half), -1)
        return depth_in_boxes(candidates.centers.float(), boxes, truth.matchable) > 1e-9

    def _normalised(self, alignment: Tensor, overlap: Tensor, gt_index: Tensor, objects: int) -> Tensor:
        """``(*, N)`` quality of the positives, 0 elsewhere."""
        positive = gt_index >= 0
        slot = gt_index.clamp(min=0)
        none = alignment.new_zeros((*gt_index.shape[:-1], objects))
        alignment, overlap = alignment * positive, overlap * positive
        best_alignment = none.scatter_reduce(-1, slot, alignment, "amax").gather(-1, slot)
        best_overlap = none.scatter_reduce(-1, slot, overlap, "amax").gather(-1, slot)
        return alignment * best_overlap / (best_alignment + self.eps)


def _power(values: Tensor, exponent: float) -> Tensor:
    """``values ** exponent``; small whole exponents by multiplication, a tenth of the time."""
    if exponent != int(exponent) or not 1 <= exponent <= 8:
        return values.pow(exponent)
    result = None
    square = values
    remaining = int(exponent)
    while remaining:
        if remaining & 1:
            result = square if result is None else result * square
        remaining >>= 1
        if remaining:
            square = square * square
    assert result is not None
    return result


def _second_stride(strides: Tensor) -> Tensor:
    """Scalar: the second smallest of the levels' strides, the only one where there is one; 0 without candidates."""
    if strides.shape[-1] == 0:
        return strides.new_zeros(())
    smallest = strides.amin(-1)
    second = strides.masked_fill(strides <= smallest, torch.inf).amin(-1)
    return torch.where(second.isinf(), smallest, second)


def _own(pairs: Tensor, gt_index: Tensor) -> Tensor:
    """``(*, N)``: of ``pairs (*, G, N)`` the value with the candidate's own object (any, where it has none)."""
    return pairs.gather(-2, gt_index.clamp(min=0).unsqueeze(-2)).squeeze(-2)


def _best_of_each(gt_index: Tensor, alignment: Tensor, objects: int, k: int) -> Tensor:
    """``gt_index (*, N)`` with only the ``k`` positives of highest alignment of every object."""
    own = gt_index.unsqueeze(-2) == torch.arange(objects, device=gt_index.device).unsqueeze(-1)
    pairs = alignment.unsqueeze(-2) * own
    index = lowest(pairs.neg_(), min(k, gt_index.shape[-1]))
    chosen = own.gather(-1, index)
    return one_object_each(index, chosen, torch.full_like(gt_index, NEGATIVE))
