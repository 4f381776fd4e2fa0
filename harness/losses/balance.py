"""Two losses of different scales brought to the same size, so that a sweep over losses compares their shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.core.processes import process_count, reduce_sum

TERMS = ("classification", "regression")
STEPS = 100  # iterations over which the sizes are compared


class Balance(nn.Module):
    """Scales the two terms of a loss so that their means over the first 100 iterations are the baseline's.

    In each of these iterations a term is multiplied by the ratio of the sums so far, the baseline's over its own; from
    then on by the ratio of the hundred. The sums are buffers: a checkpoint holds them, and a resumed training continues
    with the same factors.
    """

    own: Tensor
    wanted: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("own", torch.zeros(len(TERMS), dtype=torch.float32))
        self.register_buffer("wanted", torch.zeros(len(TERMS), dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def factors(self) -> Tensor:
        """``(2,)`` factor of the class term and of the box term; 1 where either has been 0 so far."""
        known = (self.own > 0) & (self.wanted > 0)
        return torch.where(known, self.wanted / self.own.where(known, torch.ones_like(self.own)), 1.0)

    def forward(self, losses: Mapping[str, Tensor], baseline: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The ``losses`` with their two terms scaled; the others as they are.

        Args:
            losses: scalars by name, with gradient.
            baseline: those of the baseline on the same slots.
        """
        if self.training:
            with torch.no_grad():
                counts = (self.steps < STEPS).to(self.own.dtype)
                self.own += counts * self._over_processes(losses)
                self.wanted += counts * self._over_processes(baseline)
                self.steps += 1
        factors = self.factors
        scaled = {term: losses[term] * factor for term, factor in zip(TERMS, factors.unbind(), strict=True)}
        return {**losses, **scaled}

    def _over_processes(self, losses: Mapping[str, Tensor]) -> Tensor:
        """``(2,)``: the two terms of the whole batch, which are the means over the processes."""
        terms = torch.stack([losses[term].detach().to(self.own.dtype) for term in TERMS])
        return reduce_sum(terms) / process_count()
