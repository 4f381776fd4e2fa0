"""No sampling: every positive and every negative trains."""

from __future__ import annotations

from torch import Tensor

from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import keep_in_order


class AllSampler:
    """Every positive and every negative trains with weight 1; the loss copes (RetinaNet, Lin et al. 2017; FCOS).

    The slots are the candidates in their order: nothing is gathered. Ignored and padded ones have weight 0.
    """

    needs: frozenset[Need] = frozenset()
    add_gt_as_proposals = False

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Takes all; ``noise`` and ``losses`` are not looked at."""
        pool = Pool.of(truth, candidates, assignment)
        return keep_in_order(pool.positive, pool.negative)
