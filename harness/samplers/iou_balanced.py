"""IoU-balanced sampling: an equal quota of negatives for every range of their IoU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.core import limits
from harness.core.precision import double_precision
from harness.core.structures import Need
from harness.core.topk import among, mask_of_largest, order_code
from harness.samplers.building_blocks.quota_sampler import QuotaSampler
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.slots import second_noise


class IoUBalancedSampler(QuotaSampler):
    """An equal quota of negatives for every bin of their IoU, the positives at random (Libra R-CNN, 2019, 3.1).

    The bins divide ``[floor, largest IoU of the image's candidates)`` evenly; what they leave open is filled at random
    from the other negatives above the floor. Negatives below the floor take ``floor_fraction`` of the places, and more
    where those above are too few; those above take more where those below are too few.

    mmdetection's sampler changes its own ``floor_thr`` from -1 to 0 on first use, after which negatives without overlap
    are almost never taken. This one does not change.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        floor_thr: the IoU of the floor, in [0, 1): negatives below it (at 0: without overlap) are told apart; -1 for no
            floor, then all negatives are in the bins.
        floor_fraction: their share of the negatives, in [0, 1].
        num_bins: >= 1; 1 draws at random above the floor.
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.NOISE, Need.SHAPES})

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        floor_thr: float = -1,
        floor_fraction: float = 0,
        num_bins: int = 3,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        told_apart = floor_thr == -1 or 0 <= floor_thr < 1
        self.floor_thr = limits.require(
            told_apart, "floor_thr", floor_thr, "at least 0 and below 1, or -1 for no floor"
        )
        self.floor_fraction = limits.between("floor_fraction", floor_fraction, 0, 1)
        self.num_bins = limits.count("num_bins", num_bins, 1)

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Tensor:
        """The chosen first: ``expected`` of them, by bins above the floor and at random below it."""
        noise, iou = pool.drawn, pool.assignment.max_iou
        other_noise = second_noise(noise)  # candidates that a bin rejected have small noise
        below = self._below_floor(iou) & pool.negative
        above = pool.negative & ~below
        granted = (double_precision(expected) * (1 - self.floor_fraction)).long()
        binned = self._from_bins(pool, above, granted, at_most)
        if self.floor_thr < 0:
            return other_noise + binned

        num_above = above.count_nonzero(-1).unsqueeze(-1)
        num_below = below.count_nonzero(-1).unsqueeze(-1)
        take_below = torch.minimum(expected - torch.minimum(granted, num_above), num_below)
        code = order_code(other_noise + binned)
        chosen = mask_of_largest(among(code, above), expected - take_below, at_most)
        chosen |= mask_of_largest(among(code, below), take_below, at_most)
        return other_noise + chosen

    def _below_floor(self, iou: Tensor) -> Tensor:
        if self.floor_thr == 0:
            return iou == 0
        return iou < self.floor_thr

    def _from_bins(self, pool: Pool, above: Tensor, granted: Tensor, at_most: int) -> Tensor:
        """``(*, N)`` bool: ``granted // num_bins`` of each bin of ``above (*, N)``, or all that it has."""
        if self.num_bins == 1:
            return torch.zeros_like(above)
        iou, code = pool.assignment.max_iou, order_code(pool.drawn)
        floor = max(self.floor_thr, 0)
        # The last edge is an IoU of the image, not 1: bins above it would stay empty.
        largest = pad(iou.masked_fill(~pool.candidates.valid, 0), (0, 1)).amax(-1, keepdim=True)
        width = (largest - floor) / self.num_bins
        share = granted // self.num_bins
        taken = torch.zeros_like(above)
        for bin_ in range(self.num_bins):
            inside = above & (iou >= floor + bin_ * width) & (iou < floor + (bin_ + 1) * width)
            taken |= mask_of_largest(among(code, inside), share, max(1, at_most // self.num_bins))
        return taken
