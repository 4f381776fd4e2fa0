"""The sampler that fills a quota: what several published samplers change in one place only."""

from __future__ import annotations

from torch import Tensor

from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.samplers.building_blocks.quota import Quota
from harness.samplers.building_blocks.ranker import Pool, sample_by_rank


class QuotaSampler:
    """Takes the first positives and the first negatives that a quota grants; in a random order, until a subclass ranks.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.NOISE})

    def __init__(self, num: int, pos_fraction: float, neg_pos_ub: float = -1, add_gt_as_proposals: bool = True) -> None:
        self.quota = Quota(num, pos_fraction, neg_pos_ub)
        self.add_gt_as_proposals = add_gt_as_proposals

    def rank_positives(self, pool: Pool, expected: int) -> Tensor:
        """``(*, N)`` priorities: by noise."""
        return pool.drawn

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Tensor:
        """``(*, N)`` priorities: by noise."""
        return pool.drawn

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``noise (*, N)``, ``losses`` and predictions are required where :attr:`needs` says so."""
        pool = Pool.of(truth, candidates, assignment, noise, losses)
        return sample_by_rank(self.quota, pool, positives=self, negatives=self)
