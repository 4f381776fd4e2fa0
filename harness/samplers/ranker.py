"""What a sampler with a quota is made of: a ranker of the positives and a ranker of the negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from harness.samplers.quota import Quota
from harness.samplers.ranking import fill_slots, rank_keys
from harness.types import Assignment, CandidateLosses, Candidates, GroundTruth, Need, Sample


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

    def among(self, allowed: Tensor) -> Pool:
        """The part of the pool that is in ``allowed (*, N)``."""
        return Pool(
            self.truth,
            self.candidates,
            self.assignment,
            self.positive & allowed,
            self.negative & allowed,
            self.noise,
            self.losses,
        )

    @property
    def drawn(self) -> Tensor:
        """The noise, ``(*, N)``.

        Raises:
            ValueError: none was given.
        """
        if self.noise is None:
            raise ValueError("the sampler ranks by noise: pass noise=, one uniform number in [0, 1) a candidate")
        return self.noise


@dataclass(frozen=True)
class Ranking:
    """Who goes first: those in ``first``, then the larger ``priority``, then the lower index."""

    priority: Tensor  # (*, N) float, NaN last
    first: Tensor | None = None  # (*, N) bool


@runtime_checkable
class PositiveRanker(Protocol):
    """Ranks the positives of a pool of which at most ``expected`` are taken."""

    @property
    def needs(self) -> frozenset[Need]: ...

    def rank_positives(self, pool: Pool, expected: int) -> Ranking: ...


@runtime_checkable
class NegativeRanker(Protocol):
    """Ranks the negatives of a pool of which at most ``expected (*, 1)`` are taken, never more than ``at_most``."""

    @property
    def needs(self) -> frozenset[Need]: ...

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Ranking: ...


def sample_by_rank(quota: Quota, pool: Pool, positives: PositiveRanker, negatives: NegativeRanker) -> Sample:
    """The first positives and the first negatives that the quota grants, with weight 1."""
    num_pos = pool.positive.count_nonzero(-1).unsqueeze(-1).clamp(max=quota.num_pos)
    num_neg = quota.negatives_beside(num_pos)
    keys = _keys(
        pool.positive,
        positives.rank_positives(pool, quota.num_pos),
        negatives.rank_negatives(pool, num_neg, quota.num),
    )
    return fill_slots(keys, pool.positive, pool.negative, num_pos, num_neg, most_pos=quota.num_pos, slots=quota.num)


def _keys(positive: Tensor, positives: Ranking, negatives: Ranking) -> Tensor:
    """Both rankings in one tensor of keys, which costs as much as one."""
    priority = positives.priority
    if negatives.priority is not priority:
        priority = torch.where(positive, priority, negatives.priority)
    if positives.first is None and negatives.first is None:
        return rank_keys(priority)
    nobody = torch.zeros_like(positive)
    first_positives = nobody if positives.first is None else positives.first
    first_negatives = nobody if negatives.first is None else negatives.first
    return rank_keys(priority, torch.where(positive, first_positives, first_negatives))
