"""Two losses of different scales brought to the same size, so that a sweep over losses compares their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

    Attributes:
        parts: calls that make one iteration: the parts of a batch whose gradients are accumulated.
    """

    parts: int

    # The number of steps is also kept on the host, which need not wait for the device to know that they are over. Under
    # torch.compile it stands still, since each new number would be compiled anew; the buffer then decides alone.
    _known_steps: int

    own: Tensor
    wanted: Tensor
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("own", torch.zeros(len(TERMS), dtype=torch.float32))
        self.register_buffer("wanted", torch.zeros(len(TERMS), dtype=torch.float32))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._known_steps = 0
        self.parts = 1

    @property
    def compares(self) -> bool:
        """Whether the next call takes the baseline's losses into account."""
        return self.training and self._known_steps < STEPS * self.parts

    @property
    def factors(self) -> Tensor:
        """``(2,)`` factor of the class term and of the box term; 1 where either has been 0 so far."""
        known = (self.own > 0) & (self.wanted > 0)
        return torch.where(known, self.wanted / self.own.where(known, torch.ones_like(self.own)), 1.0)

    def forward(self, losses: Mapping[str, Tensor], baseline: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """The ``losses`` with their two terms scaled; the others as they are.

        Args:
            losses: scalars by name, with gradient.
            baseline: those of the baseline on the same slots; ``None`` where :attr:`compares` is false.
        """
        if baseline is not None and self.compares:
            with torch.no_grad():
                counts = self.steps < STEPS * self.parts
                self.own += self._over_processes(losses).where(counts, 0.0)
                self.wanted += self._over_processes(baseline).where(counts, 0.0)
                self.steps += 1
            if not torch.compiler.is_compiling():
                self._known_steps += 1
        factors = self.factors
        scaled = {term: losses[term] * factor for term, factor in zip(TERMS, factors.unbind(), strict=True)}
        return {**losses, **scaled}

    def _over_processes(self, losses: Mapping[str, Tensor]) -> Tensor:
        """``(2,)``: the two terms of the whole batch, which are the means over the processes."""
        terms = torch.stack([losses[term].detach().to(self.own.dtype) for term in TERMS])
        return reduce_sum(terms) / process_count()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_steps = int(self.steps)
