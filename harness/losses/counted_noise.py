"""Random numbers of a loss that draws: a function of a seed and of how often it has drawn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.core.noise import shifted_right, split_mix
from harness.core.precision import double_precision


class CountedNoise(nn.Module):
    """Uniform numbers that depend on the seed, the number of draws before and their place alone.

    No random stream is advanced, so a loss that draws leaves the samplers' noise as it is. The state is two numbers in
    the checkpoint; processes that hold the same state draw the same numbers.
    """

    state: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(2, dtype=torch.int64))  # seed, draws

    def seed(self, seed: int) -> None:
        """Starts anew; ``seed`` is any whole number."""
        self.state[0] = seed % 2**62
        self.state[1] = 0

    def advance(self) -> None:
        """The next numbers are others."""
        self.state[1] += 1

    def forward(self, count: int, purpose: int = 0) -> Tensor:
        """``(count,)`` float64 in (0, 1); float32 on a device without float64 (MPS).

        Args:
            count: how many.
            purpose: other numbers for every purpose in the same draw.
        """
        place = torch.arange(count, device=self.state.device)
        key = split_mix(split_mix(split_mix(self.state[0]) + self.state[1]) + purpose)
        bits = shifted_right(split_mix(key + place), 12)
        return (double_precision(bits) + 0.5) / 2**52
