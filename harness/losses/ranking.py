"""Sums over pairs of scores for the ranking losses, by sorting instead of comparing every pair.

"How far is score ``a`` above score ``b``" is ``H(a - b)``, a ramp: ``clamp((a - b) / (2 delta) + 1/2, 0, 1)``, or with
``delta = 0`` the step ``a >= b``. The ramp is linear within its band and constant outside, so its sum over sorted
scores is a difference of prefix sums: O(N log N) for N scores. Shapes are static. Prefix sums need double precision.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RampSums:
    """Sums of ``mass * H`` over fixed scores, for any queries.

    Args:
        scores: ``(N,)``.
        delta: half the width of the ramp, >= 0.
    """

    def __init__(self, scores: Tensor, delta: float) -> None:
        self.score, self.order = scores.sort(stable=True)
        self.delta = delta

    def above(self, mass: Tensor, query: Tensor) -> Tensor:
        """``(..., Q)``: for each query ``q`` the sum over the scores ``s`` of ``mass H(s - q)``.

        Args:
            mass: ``(..., N)``, in the order of the constructor's scores.
            query: ``(Q,)``.
        """
        low, high = self._band(query, right=False)
        count, moment = self._prefix(mass)
        return count[..., -1:] - count[..., high] + self._within(count, moment, low, high, -query, 1)

    def below(self, mass: Tensor, query: Tensor) -> Tensor:
        """``(..., Q)``: for each query ``q`` the sum over the scores ``s`` of ``mass H(q - s)``."""
        low, high = self._band(query, right=True)
        count, moment = self._prefix(mass)
        return count[..., low] + self._within(count, moment, low, high, query, -1)

    def _band(self, query: Tensor, right: bool) -> tuple[Tensor, Tensor]:
        if self.delta == 0:
            place = torch.searchsorted(self.score, query, right=right)
            return place, place
        low, high = query - self.delta, query + self.delta
        return torch.searchsorted(self.score, low), torch.searchsorted(self.score, high)

    def _prefix(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        mass = mass[..., self.order]
        return prefix_sums(mass), prefix_sums(mass * self.score)

    def _within(self, count: Tensor, moment: Tensor, low: Tensor, high: Tensor, shift: Tensor, sign: int) -> Tensor:
        band = count[..., high] - count[..., low], moment[..., high] - moment[..., low]
        return within_band(*band, shift, sign, self.delta)


class DominanceSums:
    """The sums of :class:`RampSums` over those other scores whose key is smaller (or larger) only.

    For each bit of the keys' ranks, a key is smaller than another one if they agree in all higher bits and differ in
    this one: so the sum over the smaller keys is one over log2(N) groups, each sorted by score.

    Args:
        scores: ``(N,)``.
        keys: ``(N,)``; equal keys are neither smaller nor larger.
        delta: half the width of the ramp, >= 0.
    """

    def __init__(self, scores: Tensor, keys: Tensor, delta: float) -> None:
        self.score, self.order = scores.sort(stable=True)
        self.delta = delta
        self.rank = torch.searchsorted(keys.sort().values, keys)[self.order]
        self.place = torch.arange(len(scores), device=scores.device)
        self.bits = max(1, (len(scores) - 1).bit_length())

    def above_with_smaller_key(self, mass: Tensor) -> Tensor:
        """``(..., N)``: for each score ``i`` the sum over the ``j`` with a smaller key of ``mass_j H(s_j - s_i)``."""
        low, high = self._band(right=False)
        return self._sum(mass, low, high, smaller=True)

    def below_with_larger_key(self, mass: Tensor) -> Tensor:
        """``(..., N)``: for each score ``j`` the sum over the ``i`` with a larger key of ``mass_i H(s_j - s_i)``."""
        low, high = self._band(right=True)
        return self._sum(mass, low, high, smaller=False)

    def _band(self, right: bool) -> tuple[Tensor, Tensor]:
        if self.delta == 0:
            place = torch.searchsorted(self.score, self.score, right=right)
            return place, place
        low, high = self.score - self.delta, self.score + self.delta
        return torch.searchsorted(self.score, low), torch.searchsorted(self.score, high)

    def _sum(self, mass: Tensor, low: Tensor, high: Tensor, smaller: bool) -> Tensor:
        mass, total = mass[..., self.order], torch.zeros_like(mass)
        groups = len(self.score) + 1
        for bit in range(self.bits):
            block, digit = self.rank >> (bit + 1), (self.rank >> bit) & 1
            # Sorted by (block, score): a block's part of any range of scores is a range, too.
            position, order = (block * groups + self.place).sort()
            first, last, start, end = (
                torch.searchsorted(position, block * groups + edge) for edge in (low, high, 0, groups)
            )
            others = (mass * (digit == (0 if smaller else 1)))[..., order]
            count, moment = prefix_sums(others), prefix_sums(others * self.score[order])
            band = count[..., last] - count[..., first], moment[..., last] - moment[..., first]
            if smaller:
                part = count[..., end] - count[..., last] + within_band(*band, -self.score, 1, self.delta)
            else:
                part = count[..., first] - count[..., start] + within_band(*band, self.score, -1, self.delta)
            total = total + part * (digit == (1 if smaller else 0))
        return torch.zeros_like(total).index_copy_(-1, self.order, total)


def within_band(count: Tensor, moment: Tensor, shift: Tensor, sign: int, delta: float) -> Tensor:
    """The sum of ``(shift + sign s) / (2 delta) + 1/2`` over the scores ``s`` of a band.

    Args:
        count: the band's summed mass.
        moment: the band's summed mass times score.
        shift: of the queries.
        sign: 1 or -1.
        delta: with 0 the band is empty.
    """
    if delta == 0:
        return torch.zeros_like(count)
    return (shift * count + sign * moment) / (2 * delta) + count / 2


def prefix_sums(values: Tensor) -> Tensor:
    """``(..., N + 1)``: the sums of the first 0, 1, ..., N values."""
    return torch.cat((values.new_zeros(*values.shape[:-1], 1), values.cumsum(-1)), -1)
