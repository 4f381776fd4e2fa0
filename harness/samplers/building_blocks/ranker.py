"""What a sampler with a quota is made of: a ranker of the positives and a ranker of the negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.core.topk import among, largest, order_code
from harness.samplers.building_blocks.quota import Quota
from harness.samplers.building_blocks.slots import fill_slots


@dataclass(frozen=True)
class Pool:
    """What a sampler may choose from. Padded and ignored candidates are in neither mask."""

    truth: GroundTruth
    candidates: Candidates
    assignment: Assignment
    positive: Tensor  # (*, N) bool
    negative: Tensor  # (*, N) bool
    noise: Tensor | None = None  # (*, N) uniform in [0, 1)
    losses: CandidateLosses | None = None

    @classmethod
    def of(
        cls,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> Pool:
        """The pool of an assignment."""
        positive, negative = assignment.positive & candidates.valid, assignment.negative & candidates.valid
        return cls(truth, candidates, assignment, positive, negative, noise, losses)

    def restricted(self, allowed: Tensor) -> Pool:
        """The part of the pool that is in ``allowed (*, N)``."""
        return replace(self, positive=self.positive & allowed, negative=self.negative & allowed)

    @property
    def drawn(self) -> Tensor:
        """The noise, ``(*, N)``.

        Raises:
            ValueError: none was given.
        """
        if self.noise is None:
            raise ValueError("the sampler ranks by noise: pass noise=, one uniform number in [0, 1) per candidate")
        return self.noise


@runtime_checkable
class PositiveRanker(Protocol):
    """Gives each candidate of a pool a priority, ``(*, N)`` float; at most ``expected`` positives are taken.

    The larger goes first; among equals the lower index; NaN last. What it gives to other candidates does not matter.
    """

    @property
    def needs(self) -> frozenset[Need]: ...

    def rank_positives(self, pool: Pool, expected: int) -> Tensor: ...


@runtime_checkable
class NegativeRanker(Protocol):
    """The same for negatives, of which at most ``expected (*, 1)`` are taken, never more than ``at_most``."""

    @property
    def needs(self) -> frozenset[Need]: ...

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Tensor: ...


@runtime_checkable
class WeighingRanker(NegativeRanker, Protocol):
    """A ranker that also weighs the negatives that were taken; without this method they weigh 1."""

    def weigh_negatives(self, pool: Pool, sample: SamplingResult) -> Tensor:
        """``(*, S)`` weights of the slots of ``sample``, read where these are negative; above 0."""
        ...


def sample_by_rank(quota: Quota, pool: Pool, positives: PositiveRanker, negatives: NegativeRanker) -> SamplingResult:
    """The first positives and the first negatives that the quota grants, with weight 1 or the ranker's."""
    slots = min(quota.num, pool.positive.shape[-1])
    priority = positives.rank_positives(pool, quota.num_pos)
    code = order_code(priority)
    pos_index, pos_available = largest(among(code, pool.positive), min(quota.num_pos, slots))
    num_pos = pos_available.sum(-1, keepdim=True)

    expected = quota.negatives_beside(num_pos)
    neg_priority = negatives.rank_negatives(pool, expected, quota.num)
    code = code if neg_priority is priority else order_code(neg_priority)
    neg_index, neg_available = largest(among(code, pool.negative), slots)
    num_neg = torch.minimum(expected, neg_available.sum(-1, keepdim=True))
    sample = fill_slots(pos_index, num_pos, neg_index, num_neg)
    if not isinstance(negatives, WeighingRanker):
        return sample
    return replace(sample, weight=torch.where(sample.negative, negatives.weigh_negatives(pool, sample), sample.weight))
