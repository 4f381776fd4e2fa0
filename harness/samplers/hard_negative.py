"""SSD's hard negative mining."""

from __future__ import annotations

from torch import Tensor

from harness.core import limits
from harness.core.precision import double_precision
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.core.topk import among, mask_of_largest, order_code
from harness.samplers.building_blocks.hardness import RankBy, hardness
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import keep_in_order


class HardNegativeSampler:
    """All positives, and of each image the negatives of the highest classification loss (SSD, Liu et al. 2016, 2.2).

    An image has ``floor(neg_pos_ratio * positives)`` negatives, or all where there are fewer; one without positives has
    none and so learns nothing, as in SSD. Candidates keep their order, those left out have weight 0.

    torchvision ranks the positives as background too and so counts some of them twice where the ratio asks for more
    negatives than there are; here a candidate is taken once, as in mmdetection.

    Args:
        neg_pos_ratio: negatives per positive, >= 0.

    Raises:
        ValueError: the ratio is negative or not finite.
    """

    needs: frozenset[Need] = frozenset({Need.LOSSES})
    add_gt_as_proposals = False

    def __init__(self, neg_pos_ratio: float = 3.0) -> None:
        self.neg_pos_ratio = limits.at_least("neg_pos_ratio", neg_pos_ratio, 0)

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
        num_pos = pool.positive.count_nonzero(-1).unsqueeze(-1)
        num_neg = (double_precision(num_pos) * self.neg_pos_ratio).long()
        code = among(order_code(hardness(pool, RankBy.CLS)), pool.negative)
        return keep_in_order(pool.positive, pool.negative & mask_of_largest(code, num_neg, code.shape[-1]))
