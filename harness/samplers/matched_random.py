"""The control of a mining experiment."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.samplers.ranker import Pool
from harness.samplers.ranking import fill_slots, keep_in_order, rank_keys, second_noise
from harness.types import Assignment, CandidateLosses, Candidates, GroundTruth, Need, Sample, Sampler


class MatchedRandomSampler:
    """As many positives and as many negatives of each image as another sampler would take, but drawn at random.

    Mining changes two things at once: *which* candidates train, and *how many* of them are positive. Against this
    control only the first differs, so that a gain over it is due to hardness. It costs what the other sampler costs:
    the losses or predictions that it needs. All weights are 1, whatever the other sampler's are.

    Args:
        of: the other sampler.

    Raises:
        ValueError: ``of`` is not a sampler.
    """

    def __init__(self, of: Sampler) -> None:
        if not isinstance(of, Sampler):
            raise ValueError(f"sampler.of={type(of).__name__} must be a sampler")
        self.of = of
        self.needs = of.needs | {Need.NOISE}
        self.add_gt_as_proposals = of.add_gt_as_proposals

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> Sample:
        """Samples; ``noise (*, N)`` is required, ``losses`` where the other sampler needs them."""
        pool = Pool.of(truth, candidates, assignment, noise)
        keys = rank_keys(second_noise(pool.drawn))  # the other sampler may rank by the noise itself
        other = self.of(truth, candidates, assignment, noise=noise, losses=losses)
        num_pos = (other.positive & other.used).count_nonzero(-1).unsqueeze(-1)
        num_neg = other.negative.count_nonzero(-1).unsqueeze(-1)
        if other.in_order:
            return self._in_order(pool, keys, num_pos, num_neg)
        slots = other.index.shape[-1]
        return fill_slots(keys, pool.positive, pool.negative, num_pos, num_neg, most_pos=slots, slots=slots)

    def _in_order(self, pool: Pool, keys: Tensor, num_pos: Tensor, num_neg: Tensor) -> Sample:
        size = keys.shape[-1]
        if size == 0:
            return keep_in_order(pool.positive, pool.negative)
        # Positives lie below 0 and negatives above it: one sort finds the last of either that is still taken.
        signed = keys * (pool.negative.to(torch.int8) - pool.positive.to(torch.int8))
        ordered = signed.sort(-1).values
        last_pos = ordered.gather(-1, (num_pos - 1).clamp(min=0))
        last_neg = ordered.gather(-1, (size - num_neg).clamp(max=size - 1))
        return keep_in_order(
            pool.positive & (signed <= last_pos) & (num_pos > 0), pool.negative & (signed >= last_neg) & (num_neg > 0)
        )
