"""Offline mining: hard negatives, and hard objects, that were found between rounds of training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.core import limits
from harness.core.boxes import area, centers, pairwise_iou
from harness.core.chunking import by_objects
from harness.core.precision import double_precision
from harness.core.structures import (
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    MiningPlan,
    Need,
    SamplingResult,
)
from harness.core.topk import among, mask_of_largest, order_code
from harness.samplers.building_blocks.quota import Quota
from harness.samplers.building_blocks.ranker import Pool, sample_by_rank
from harness.samplers.building_blocks.slots import second_noise

MEMORY_BOUND = 2**26  # bytes for every float of the pairs of a stored box and a candidate


class OfflineHardSampler:
    """Negatives near a stored false positive first, everything else at random (bootstrapping: Sung & Poggio 1998,
    "Example-based learning for view-based human face detection"; R-CNN, Girshick et al. 2014, section 2.3).

    Every ``every_epochs`` epochs training pauses, the detector runs over the training set, and its confident false
    positives are stored for each image (:mod:`harness.training.mining`). They come back as ``truth.hard_negative``; an
    RoI stage also lets them join the proposals (``add_gt_as_proposals``). Without them, as before the first round or as
    a shadow of another sampler, this is :class:`~harness.samplers.random.RandomSampler` to the bit.

    The symmetric form (``hard_positive_fraction`` above 0) mines both kinds of mistakes: objects that no confident
    detection found, or that were found as another class, go back among the positives. They come back as
    ``truth.hard_positive``, and their candidates take a share of the positives' places before all others. An object
    stays hard until a round finds it.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let ground-truth boxes and stored false positives join the proposals of an RoI stage.
        hard_fraction: this share of the negatives' places is for those near a stored box, in [0, 1]. The other places,
            and those that stay open for want of hard ones, are drawn among all negatives that are left.
        hard_iou_thr: a negative is near from this IoU on, in (0, 1]. A point has no shape of its own: it counts as a
            box of the stored one's size around it.
        every_epochs: epochs of a round, > 0.
        score_thr: detections from this score on are confident, in [0, 1].
        max_iou: and false where they overlap every object less than this, in (0, 1] (0.3: R-CNN's negatives).
        max_per_image: at most so many of an image in a round, the most confident ones, >= 1.
        hard_positive_fraction: this share of the positives' places is for candidates of hard objects, in [0, 1]; 0
            mines no objects.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.NOISE, Need.MINING})

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        hard_fraction: float = 0.5,
        hard_iou_thr: float = 0.5,
        every_epochs: float = 1.0,
        score_thr: float = 0.2,
        max_iou: float = 0.3,
        max_per_image: int = 20,
        hard_positive_fraction: float = 0.0,
    ) -> None:
        self.quota = Quota(num, pos_fraction, neg_pos_ub)
        self.add_gt_as_proposals = add_gt_as_proposals
        self.hard_fraction = limits.between("hard_fraction", hard_fraction, 0, 1)
        self.hard_iou_thr = limits.above("hard_iou_thr", hard_iou_thr, 0, 1)
        self.mining = MiningPlan(
            every_epochs=limits.above("every_epochs", every_epochs, 0),
            score_thr=limits.between("score_thr", score_thr, 0, 1),
            max_iou=limits.above("max_iou", max_iou, 0, 1),
            max_per_image=limits.count("max_per_image", max_per_image, 1),
            positives=limits.between("hard_positive_fraction", hard_positive_fraction, 0, 1) > 0,
        )
        self._positives = HardObjectsFirst(hard_positive_fraction)
        self._negatives = HardFirst(hard_fraction, hard_iou_thr)

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``noise (*, N)`` is required, ``losses`` are not looked at."""
        pool = Pool.of(truth, candidates, assignment, noise)
        return sample_by_rank(self.quota, pool, positives=self._positives, negatives=self._negatives)


@dataclass(frozen=True)
class HardObjectsFirst:
    """Ranks positives: a share of the places for those of hard objects, the others by noise.

    Not an option by itself: only :class:`OfflineHardSampler` has objects marked.
    """

    hard_fraction: float
    needs: frozenset[Need] = frozenset({Need.NOISE})

    def rank_positives(self, pool: Pool, expected: int) -> Tensor:
        """By noise, but for ``hard_fraction`` of ``expected`` candidates of hard objects, which go first."""
        noise, marks = pool.drawn, pool.truth.hard_positive
        granted = int(expected * self.hard_fraction)
        if marks is None or marks.shape[-1] == 0 or granted == 0:
            return noise
        hard = pool.positive & marks.gather(-1, pool.assignment.gt_index.clamp(min=0))
        count = torch.full_like(pool.assignment.gt_index[..., :1], granted)
        chosen = mask_of_largest(among(order_code(noise), hard), count, granted)
        # A hard one that the first draw rejected has small noise, so the second draw needs independent numbers.
        return torch.where(hard, second_noise(noise), noise) + chosen


@dataclass(frozen=True)
class HardFirst:
    """Ranks negatives: a share of the places for those near a stored false positive, the others by noise.

    Not an option by itself: only :class:`OfflineHardSampler` stores boxes.
    """

    hard_fraction: float
    hard_iou_thr: float
    needs: frozenset[Need] = frozenset({Need.NOISE})

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Tensor:
        """By noise, but for ``hard_fraction`` of ``expected (*, 1)`` near negatives, which go first."""
        noise = pool.drawn
        if pool.truth.hard_negative is None:
            return noise
        hard = pool.negative & near(pool.truth, pool.candidates, self.hard_iou_thr)
        granted = (double_precision(expected) * self.hard_fraction).long()
        chosen = mask_of_largest(among(order_code(noise), hard), granted, at_most)
        # A hard one that the first draw rejected has small noise, so the second draw needs independent numbers.
        return torch.where(hard, second_noise(noise), noise) + chosen


def near(truth: GroundTruth, candidates: Candidates, iou_thr: float) -> Tensor:
    """``(*, N)`` bool: the candidates that overlap a hard negative of ``truth`` with an IoU of at least ``iou_thr``."""
    assert truth.hard_negative is not None
    stored = truth.boxes.float().masked_fill(~truth.hard_negative.unsqueeze(-1), 0)  # an empty box overlaps nothing
    # All x1, then all y1, ...: so that a CPU's pairwise operations vectorize.
    boxes = candidates.boxes.float().transpose(-1, -2).contiguous().transpose(-1, -2)
    candidates, truth = replace(candidates, boxes=boxes), replace(truth, boxes=stored)
    found = torch.zeros_like(candidates.valid)
    for _, part in by_objects(truth, candidates, bytes_per_pair=4, memory_bound=MEMORY_BOUND):
        found = found | (_overlap(part.boxes, candidates) >= iou_thr).any(-2)
    return found


def _overlap(stored: Tensor, candidates: Candidates) -> Tensor:
    """``(*, G, N)`` IoU of ``stored (*, G, 4)`` with the candidates, or, of points, as if those had its size."""
    iou = pairwise_iou(stored, candidates.boxes)
    if candidates.stride is None:
        return iou
    sides = stored[..., 2:] - stored[..., :2]
    # Boxes of one size share, on either axis, the side less the distance of their centers.
    x, y = (
        (center.unsqueeze(-2) - mid.unsqueeze(-1)).abs_().neg_().add_(side.unsqueeze(-1)).clamp_(min=0)
        for center, mid, side in zip(
            candidates.centers.unbind(-1), centers(stored).unbind(-1), sides.unbind(-1), strict=True
        )
    )
    shared = x.mul_(y)
    union = 2 * area(stored).unsqueeze(-1) - shared
    return torch.where(candidates.is_point.unsqueeze(-2), shared.div_(union.clamp_(min=1e-6)), iou)
