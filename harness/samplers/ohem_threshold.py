"""Hard example mining by a threshold on the losses of the whole batch, as for an RPN."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.core.processes import gather_rows
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.core.topk import NEVER, among, order_code
from harness.samplers.building_blocks.hardness import hardness, parse_rank_by
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import keep_in_order


class OHEMThresholdSampler:
    """Keeps the candidates of the batch whose loss is at least the ``num``-th largest one of all of them.

    OHEM (Shrivastava et al. 2016) without quotas and without suppression, in the form that anchors of a region proposal
    network are mined in: positives and negatives of all images compete together, and the loss is the mean over those
    that are kept. All that are equal to the threshold are kept, so that there may be more than ``num``; all are kept
    where there are fewer. A NaN loss ranks last, an infinite one first.

    Args:
        num: candidates of the whole batch that set the threshold, >= 1.
        rank_by: ``cls`` or ``total``, the loss that ranks.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.LOSSES, Need.BATCH})
    add_gt_as_proposals = False

    def __init__(self, num: int = 512, rank_by: str = "cls") -> None:
        self.num = limits.count("num", num, 1)
        self.rank_by = parse_rank_by(rank_by)

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``losses`` are required, ``noise`` is not looked at."""
        pool = Pool.of(truth, candidates, assignment, losses=losses)
        code = among(order_code(hardness(pool, self.rank_by)), pool.positive | pool.negative)
        every = gather_rows(code.flatten(), NEVER)  # of all processes
        if len(every) == 0:
            return keep_in_order(pool.positive, pool.negative)
        threshold = torch.topk(every, min(self.num, every.shape[-1])).values[-1]  # a value: ties do not matter
        return keep_in_order(pool.positive & (code >= threshold), pool.negative & (code >= threshold))
