"""The hardest fraction of all candidates."""

from __future__ import annotations

from torch import Tensor

from harness.core import limits
from harness.core.precision import double_precision
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.core.topk import among, mask_of_largest, order_code
from harness.samplers.building_blocks.hardness import hardness, parse_rank_by
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import keep_in_order


class TopKLossSampler:
    """Keeps the fraction of an image's candidates with the highest loss, positives and negatives together.

    "Top-k" or "online bootstrapped" cross entropy (Wu et al. 2016, "Bridging category-level and instance-level semantic
    image segmentation"; nnU-Net's ``TopKLoss``): mining without a quota of positives, in which the easy
    candidates just stop to count. ``floor(fraction * candidates)`` are kept, which is none of a single candidate.

    Args:
        fraction: the share that is kept, in (0, 1].
        rank_by: ``cls`` or ``total``, the loss that ranks.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.LOSSES})
    add_gt_as_proposals = False

    def __init__(self, fraction: float = 0.7, rank_by: str = "cls") -> None:
        self.fraction = limits.above("fraction", fraction, 0, 1)
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
        available = pool.positive | pool.negative
        # 0.29 * 100 is 28.999... in floating point, but the fraction that was meant keeps 29.
        count = (double_precision(available.count_nonzero(-1).unsqueeze(-1)) * self.fraction + 1e-9).long()
        code = among(order_code(hardness(pool, self.rank_by)), available)
        kept = mask_of_largest(code, count, code.shape[-1])
        return keep_in_order(pool.positive & kept, pool.negative & kept)
