"""Uniform matching (YOLOF): the same number of positives for every object, whatever its size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.point_squares import with_squares
from harness.core import limits
from harness.core.boxes import aligned_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need
from harness.core.topk import nearest

BYTES_PER_PAIR = 16


@dataclass(frozen=True)
class UniformMatches:
    """What every object matched. Rank by rank: first by the predicted boxes, then by the candidates themselves."""

    index: Tensor  # (*, match_times, 2, G) int64 into the candidates
    kept: Tensor  # (*, match_times, 2, G) bool: a positive; False where its IoU is too low
    real: Tensor  # (*, match_times, 2, G) bool: False without an object or a candidate


class UniformAssigner:
    """Uniform matching of YOLOF.

    Chen et al., "You Only Look One-level Feature", section 4.2. Every object matches the ``match_times`` candidates
    whose predicted boxes are nearest to it, and those that are nearest themselves: by the L1 distance of center, width
    and height, ties to the lower index. A match is positive, or ignored if the candidate's own IoU with the object is
    below ``pos_ignore_thr``. Of several matches of a candidate the last one counts, in the order of
    :class:`UniformMatches`. Without a match a candidate is negative, or ignored if its *predicted* box has an IoU above
    ``neg_ignore_thr`` with an object. A prediction that is not finite matches and overlaps nothing.

    Args:
        pos_ignore_thr: lowest IoU of a positive.
        neg_ignore_thr: highest IoU of the prediction of a negative.
        match_times: matches of an object by each of the two distances.
        point_scale: side of the square that stands for a point (FCOS, YOLOX), in strides; anchors stay as they are.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range; on call, if the candidates carry no predictions.
    """

    needs: frozenset[Need] = frozenset({Need.PREDICTIONS})

    def __init__(
        self,
        pos_ignore_thr: float = 0.15,
        neg_ignore_thr: float = 0.7,
        match_times: int = 4,
        point_scale: float = 8.0,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.pos_ignore_thr = limits.between("pos_ignore_thr", pos_ignore_thr, 0, 1)
        self.neg_ignore_thr = limits.between("neg_ignore_thr", neg_ignore_thr, 0, 1)
        self.match_times = limits.count("match_times", match_times, 1)
        self.point_scale = limits.above("point_scale", point_scale, 0)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates with predictions to a ``(*, N)`` assignment."""
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def matches(self, truth: GroundTruth, candidates: Candidates) -> UniformMatches:
        """What every object matched, before candidates that matched several times are settled."""
        clean_truth, predicted = clean(truth, _as_predicted(candidates))
        candidates = with_squares(clean(truth, candidates)[1], self.point_scale)
        found = [nearest(_distance(clean_truth, kind), self.match_times) for kind in (predicted, candidates)]
        index = torch.stack([index for index, _ in found], -1).movedim(-3, -1)
        real = torch.stack([real for _, real in found], -1).movedim(-3, -1)
        real = real & clean_truth.matchable[..., None, None, :]
        slots = index.flatten(-3).unsqueeze(-1)
        boxes = candidates.boxes.gather(-2, slots.expand(*slots.shape[:-1], 4)).unflatten(-2, index.shape[-3:])
        iou = aligned_iou(clean_truth.boxes[..., None, None, :, :], boxes)
        return UniformMatches(index, real & (iou >= self.pos_ignore_thr), real)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        clean_truth, clean_candidates = clean(truth, candidates)
        max_iou = overlaps(clean_truth, clean_candidates, memory_bound=self.memory_bound).iou
        predicted = clean(truth, _as_predicted(candidates))[1]
        predicted_iou = overlaps(clean_truth, predicted, memory_bound=self.memory_bound).iou
        gt_index = torch.where(predicted_iou > self.neg_ignore_thr, IGNORED, NEGATIVE)
        if truth.valid.shape[-1] == 0 or candidates.valid.shape[-1] == 0:
            return settle(gt_index, max_iou, clean_candidates.valid)
        found = self.matches(truth, candidates)
        objects = torch.arange(truth.valid.shape[-1], device=gt_index.device)
        meaning = torch.where(found.kept, objects, IGNORED).flatten(-3)
        # The last write wins: of all matches of a candidate, the one of the highest position.
        position = torch.where(found.real.flatten(-3), torch.arange(meaning.shape[-1], device=gt_index.device), -1)
        last = torch.full_like(gt_index, -1).scatter_reduce(-1, found.index.flatten(-3), position, "amax")
        gt_index = torch.where(last >= 0, meaning.gather(-1, last.clamp(min=0)), gt_index)
        return settle(gt_index, max_iou, clean_candidates.valid)


def _as_predicted(candidates: Candidates) -> Candidates:
    """The predicted boxes in the place of the candidates'."""
    return replace(candidates, boxes=candidates.predictions_for("UniformAssigner").boxes)


def _distance(truth: GroundTruth, candidates: Candidates) -> Tensor:
    """``(*, G, N)`` L1 distance of center, width and height, px; infinite for padding."""
    distance = torch.zeros_like(candidates.valid, dtype=candidates.boxes.dtype)
    distance = distance.masked_fill(~candidates.valid, torch.inf).unsqueeze(-2)
    for theirs, ours in zip(_center_form(candidates.boxes), _center_form(truth.boxes), strict=True):
        distance = distance + (theirs.unsqueeze(-2) - ours.unsqueeze(-1)).abs_()
    return distance


def _center_form(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
