"""RFLA: the candidates whose receptive fields, as Gaussians, are most similar to an object, in two steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import last_row, overlaps
from harness.assigners.building_blocks.gaussian_boxes import SIMILARITIES
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.point_squares import with_squares
from harness.core import limits
from harness.core.boxes import scaled
from harness.core.chunking import MEMORY_BOUND, by_images, by_objects
from harness.core.structures import IGNORED, NEGATIVE, Assignment, Candidates, GroundTruth, Need
from harness.core.topk import highest_of_each

BYTES_PER_PAIR = 32


class RFLAAssigner:
    """Gaussian receptive field based label assignment for tiny objects.

    Xu et al. 2022, "RFLA", sections 3.2 and 3.3 (hierarchical label assignment). An object takes the ``topk``
    candidates most similar to it, then, of those that no object took, the ones among the ``second_topk`` most similar
    after all candidates are shrunk by ``ratio``. The number of positives does not depend on the object's size, so that
    tiny objects get as many as large ones.

    All candidates as similar as the last of the ``topk`` are taken; a later object takes what an earlier one took in
    the same step. A candidate without an object is negative, or ignored if, shrunk, its similarity to some object is
    at least ``ignore_thr``. A similarity of 0, to which that of a far pair may be rounded, takes nothing.

    A candidate stands for a receptive field. A point (FCOS, YOLOX) is a square of ``point_scale`` strides; anchors and
    proposals are compared as they are. The authors' code shrinks the anchors that it is given in place; here the inputs
    stay as they are.

    Left out: receptive fields computed from the layers of the network (section 3.2); ``point_scale`` or the anchors
    take their place.

    Args:
        topk: candidates of an object in the first step, at least 1.
        second_topk: in the second step, at least 1.
        ratio: sides of the candidates in the second step, as a fraction, in (0, 1].
        assign_metric: the similarity: ``kl`` is ``1 / (1 + KL)``, ``exp_kl`` is ``exp(-KL / 10)``, ``kl_10`` is
            ``1 / (10 + KL)``, ``wd`` is ``1 / (1 + W^2)`` of the Wasserstein distance in px.
        inside: positives whose center is outside their object become negative.
        ignore_thr: similarity from which on a candidate without an object is ignored.
        point_scale: side of the square that stands for a point, in strides.
        memory_bound: bytes for the pairs that are worked on at once.

    Raises:
        ValueError: for a parameter outside its range.
    """

    needs: frozenset[Need] = frozenset()

    def __init__(
        self,
        topk: int = 3,
        second_topk: int = 1,
        ratio: float = 0.9,
        assign_metric: str = "kl",
        inside: bool = False,
        ignore_thr: float = 0.8,
        point_scale: float = 8.0,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.topk = limits.count("topk", topk, 1)
        self.second_topk = limits.count("second_topk", second_topk, 1)
        self.ratio = limits.above("ratio", ratio, 0, 1)
        self.similarity = SIMILARITIES[limits.one_of("assign_metric", assign_metric, SIMILARITIES)]
        self.inside = inside
        self.ignore_thr = limits.at_least("ignore_thr", ignore_thr, 0)
        self.point_scale = limits.above("point_scale", point_scale, 0)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        fields = with_squares(candidates, self.point_scale)
        shrunk = replace(fields, boxes=scaled(fields.boxes, self.ratio))
        first, _ = self._most_similar(truth, fields, self.topk)
        second, highest = self._most_similar(truth, shrunk, self.second_topk)
        taken = torch.where(first >= 0, first, second)
        if self.inside:
            taken = torch.where(_center_inside(truth, candidates, taken), taken, NEGATIVE)
        free = torch.where((highest >= self.ignore_thr) & (first < 0) & (second < 0), IGNORED, NEGATIVE)
        return settle(torch.where(taken >= 0, taken, free), max_iou, candidates.valid)

    def _most_similar(self, truth: GroundTruth, candidates: Candidates, k: int) -> tuple[Tensor, Tensor]:
        """``(*, N)`` the last object that has the candidate among its ``k`` most similar ones, -1 where none has; and
        the highest similarity to any object, 0 without."""
        highest = torch.zeros_like(candidates.valid, dtype=candidates.boxes.dtype)
        taken = torch.full_like(candidates.valid, -1, dtype=torch.int64)
        k = min(k, candidates.valid.shape[-1])
        for start, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound):
            possible = some.matchable.unsqueeze(-1) & candidates.valid.unsqueeze(-2)
            pairs = self.similarity(some.boxes, candidates.boxes).masked_fill_(~possible, 0)
            highest = torch.maximum(highest, pairs.amax(-2))
            best = pairs.gather(-1, highest_of_each(pairs.float(), k))
            least = torch.where(best > 0, best, torch.inf).amin(-1, keepdim=True)
            claims = last_row(pairs.ge_(least))
            taken = torch.where(claims >= 0, claims + start, taken)
        return taken, highest


def _center_inside(truth: GroundTruth, candidates: Candidates, taken: Tensor) -> Tensor:
    """``(*, N)`` bool: the candidate's center is strictly inside the object that took it."""
    if truth.valid.shape[-1] == 0:
        return taken >= 0
    owner = taken.clamp(min=0).unsqueeze(-1)
    boxes = truth.boxes.gather(-2, owner.expand(*taken.shape, 4))
    center = candidates.centers
    return torch.cat((center - boxes[..., :2], boxes[..., 2:] - center), -1).amin(-1) > 0
