"""Positives as one sampler ranks them, negatives as another does."""

from __future__ import annotations

from torch import Tensor

from harness.core import limits
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.samplers.building_blocks.quota import Quota
from harness.samplers.building_blocks.ranker import NegativeRanker, Pool, PositiveRanker, sample_by_rank


class CombinedSampler:
    """The positives as one sampler ranks them and the negatives as another does (Libra R-CNN, Pang et al. 2019).

    The quota is this sampler's own; the quotas of the two parts are not looked at. Where the sampler of the negatives
    weighs them (``score_hlr``), so does this one.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        pos: a sampler that ranks positives: random, ohem, iou_balanced, instance_balanced.
        neg: a sampler that ranks negatives: the same ones, and score_hlr.
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.

    Raises:
        ValueError: a value is out of its range, or a part does not rank.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        pos: PositiveRanker,
        neg: NegativeRanker,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
    ) -> None:
        for name, part, ranker in (("pos", pos, PositiveRanker), ("neg", neg, NegativeRanker)):
            # NMS suppresses across positives and negatives: it has no meaning for one of both alone.
            ranks = isinstance(part, ranker) and getattr(part, "nms_thr", None) is None and Need.BATCH not in part.needs
            valid = (
                "a sampler that ranks within a quota: random, ohem with nms_thr null and scope image, iou_balanced, "
                "instance_balanced, score_hlr"
            )
            limits.require(ranks, name, type(part).__name__, valid)
        self.quota = Quota(num, pos_fraction, neg_pos_ub)
        self.add_gt_as_proposals = add_gt_as_proposals
        self.pos, self.neg = pos, neg
        self.needs = pos.needs | neg.needs

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``noise`` and ``losses`` are required where a part needs them."""
        pool = Pool.of(truth, candidates, assignment, noise, losses)
        return sample_by_rank(self.quota, pool, positives=self.pos, negatives=self.neg)
