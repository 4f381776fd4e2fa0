"""Random sampling with the numbers of another sampler: the control of a mining experiment."""

from __future__ import annotations

from torch import Tensor

from harness.core.structures import (
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    Need,
    Sampler,
    SamplingResult,
)
from harness.core.topk import among, largest, mask_of_largest, order_code
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import fill_slots, keep_in_order, second_noise
from harness.samplers.building_blocks.wrapping import WrappingSampler


class MatchedRandomSampler(WrappingSampler):
    """As many positives and as many negatives of each image as another sampler would take, but drawn at random.

    Mining changes two things at once: *which* candidates train, and *how many* of them are positive. Against this
    control only the first differs, so that a gain over it is due to hardness. It costs what the other sampler costs:
    the losses or predictions that it needs. All weights are 1, whatever the other sampler's are. Where the other
    sampler has the training set mined between rounds, so does this one.

    Args:
        of: the other sampler.

    Raises:
        ValueError: ``of`` is not a sampler.
    """

    def __init__(self, of: Sampler) -> None:
        super().__init__(of, frozenset({Need.NOISE}))
        self.needs = self.needs - {Need.REWEIGHTING}  # its weights are 1

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``noise (*, N)`` is required, ``losses`` where the other sampler needs them."""
        pool = Pool.of(truth, candidates, assignment, noise)
        code = order_code(second_noise(pool.drawn))  # the other sampler may rank by the noise itself
        other = self.of(truth, candidates, assignment, noise=noise, losses=losses)
        num_pos = (other.positive & other.used).count_nonzero(-1).unsqueeze(-1)
        num_neg = other.negative.count_nonzero(-1).unsqueeze(-1)
        pos_code, neg_code = among(code, pool.positive), among(code, pool.negative)
        if other.in_order:
            size = code.shape[-1]
            return keep_in_order(mask_of_largest(pos_code, num_pos, size), mask_of_largest(neg_code, num_neg, size))
        slots = other.index.shape[-1]
        return fill_slots(largest(pos_code, slots)[0], num_pos, largest(neg_code, slots)[0], num_neg)
