"""Instance-balanced sampling: an equal share of the positives for every object."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.precision import double_precision
from harness.core.topk import rank_within
from harness.samplers.building_blocks.quota_sampler import QuotaSampler
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import second_noise


class InstanceBalancedPosSampler(QuotaSampler):
    """An equal share of the positives for every object, the negatives at random (Libra R-CNN, Pang et al. 2019, 3.1).

    Each object that has positives offers ``round(expected / objects) + 1`` of them, drawn at random; where all offers
    together are too many, a random part of them is taken; where they are too few, the remaining positives fill up at
    random. So there are always as many positives as the quota grants (mmdetection's set arithmetic may lose some).

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.

    Raises:
        ValueError: a value is out of its range.
    """

    def rank_positives(self, pool: Pool, expected: int) -> Tensor:
        """The offers of the objects first, at random among themselves."""
        noise, positive = pool.drawn, pool.positive
        owner = torch.where(positive, pool.assignment.gt_index, pool.truth.labels.shape[-1])  # the others: one group
        rank = rank_within(noise, owner)
        with_positives = (positive & (rank == 0)).count_nonzero(-1).unsqueeze(-1).clamp(min=1)
        offers = (expected / double_precision(with_positives)).round().long() + 1
        return second_noise(noise) + (rank < offers)
