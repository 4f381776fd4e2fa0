"""Score hierarchical local rank: PISA's ranking and weighting of the negatives by their scores (ISR-N)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import (
    Need,
    SamplingResult,
)
from harness.core.topk import among, largest, mask_of_largest, order_code, rank_within
from harness.samplers.building_blocks.hardness import RankBy, hardness
from harness.samplers.building_blocks.quota_sampler import QuotaSampler
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.suppression import match_leaders


class ScoreHLRSampler(QuotaSampler):
    """Score hierarchical local rank of the negatives, with weights (PISA: Cao et al. 2020, "Prime sample attention in
    object detection", sections 3 and 4.1).

    A negative whose best foreground score exceeds ``score_thr`` is confident. Confident negatives whose predicted boxes
    overlap form groups; the best of each group go first, then the second of each, and so on, each time by score. They
    fill the slots, other negatives follow at random; positives are drawn at random. A negative in place ``r`` weighs
    ``(bias + (1 - bias) * (1 - r / n)) ** k``, scaled so that the sum of their losses stays what it was (NaN and
    negative losses not counted; not scaled where one is infinite); ``n`` is the number of confident or of sampled
    negatives, whichever is larger.

    Left out: the two other parts of PISA, which are :class:`~harness.samplers.isr_p.ISRPSampler` for the positives and
    :class:`~harness.losses.carl.CARLTerm` for the boxes.

    A negative with a prediction that is not finite counts as not confident. Grouping compares all pairs of the
    ``nms_pre`` highest-scored negatives and waits for the device: meant for an RoI stage.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.
        k: exponent of the weights, >= 0.
        bias: least weight before the exponent, in [0, 1].
        score_thr: in [0, 1].
        iou_thr: least IoU within a group, in [0, 1].
        nms_pre: at most this many negatives per image count as confident, >= 1; it bounds the memory of an
            intermediate to ``4 * nms_pre ** 2`` bytes per image.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.NOISE, Need.LOSSES, Need.PREDICTIONS})

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        k: float = 0.5,
        bias: float = 0.0,
        score_thr: float = 0.05,
        iou_thr: float = 0.5,
        nms_pre: int = 2000,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        self.k = limits.at_least("k", k, 0)
        self.bias = limits.between("bias", bias, 0, 1)
        self.score_thr = limits.between("score_thr", score_thr, 0, 1)
        self.iou_thr = limits.between("iou_thr", iou_thr, 0, 1)
        self.nms_pre = limits.count("nms_pre", nms_pre, 1)

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Tensor:
        """The confident first, by their place in their group, then by score; the others by noise."""
        predictions, (code, confident) = pool.candidates.predictions_for("ScoreHLRSampler"), self._confident(pool)
        index, alive = largest(code, min(self.nms_pre, code.shape[-1]))
        boxes = predictions.boxes.gather(-2, index.unsqueeze(-1).expand(*index.shape, 4)).float()
        leader = match_leaders(boxes.masked_fill(~alive.unsqueeze(-1), 0), alive, self.iou_thr)
        place = rank_within(torch.zeros_like(boxes[..., 0]), leader)
        score = predictions.scores.amax(-1).float().gather(-1, index)
        # A score is at most 1, so it never outweighs a place; with its score even the last is above all noise.
        importance = alive.count_nonzero(-1).unsqueeze(-1) - place + score
        by_candidate = torch.zeros(code.shape, device=code.device).scatter(-1, index, importance)
        return torch.where(confident, by_candidate, pool.drawn.float())

    def weigh_negatives(self, pool: Pool, sample: SamplingResult) -> Tensor:
        """By their place, so that the sum of their losses stays what it was."""
        num_neg = sample.negative.count_nonzero(-1).unsqueeze(-1)
        num_confident = self._confident(pool)[1].count_nonzero(-1).unsqueeze(-1)
        slot = torch.arange(sample.index.shape[-1], device=sample.index.device)
        place = slot - sample.positive.count_nonzero(-1).unsqueeze(-1)
        last = (torch.minimum(num_confident, num_neg) - 1).clamp(min=0)  # the random ones weigh as much as the last
        bound = torch.maximum(num_confident, num_neg).clamp(min=1)
        weight = (bound - torch.minimum(place, last)).float() / bound
        weight = torch.where(num_confident > 0, (self.bias + (1 - self.bias) * weight) ** self.k, 1.0)

        loss = sample.take(hardness(pool, RankBy.CLS)).float().nan_to_num(nan=0.0, posinf=math.inf).clamp(min=0)
        loss = loss.masked_fill(~sample.negative, 0)
        ratio = loss.sum(-1, keepdim=True) / (loss * weight).sum(-1, keepdim=True)
        ratio = torch.where(ratio.isfinite(), ratio, 1.0)  # all losses 0, or one infinite
        return weight * ratio

    def _confident(self, pool: Pool) -> tuple[Tensor, Tensor]:
        """Codes of the confident scores, ``(*, N)`` int32, and the ``nms_pre`` best of them, ``(*, N)`` bool."""
        predictions = pool.candidates.predictions_for("ScoreHLRSampler")
        score = predictions.scores.amax(-1)
        finite = predictions.boxes.isfinite().all(-1)
        code = among(order_code(score), pool.negative & finite & (score > self.score_thr))
        count = torch.full_like(code[..., :1], self.nms_pre, dtype=torch.int64)
        return code, mask_of_largest(code, count, self.nms_pre)
