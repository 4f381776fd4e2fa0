"""``run.select=best``: the weights with the highest mAP of all evaluations of a run, kept with its checkpoint.

The choice is made on the validation split, so its mAP is optimistic: the best of several noisy values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class BestWeights:
    """The best weights so far, on the CPU."""

    def __init__(self) -> None:
        self.iteration = 0
        self.map: float | None = None
        self._weights: dict[str, torch.Tensor] = {}

    def offer(self, iteration: int, value: float | None, model: nn.Module) -> bool:
        """Keeps a copy of the model's weights if ``value`` is the highest mAP so far; an equal later one is not taken.

        Args:
            iteration: at which the model was evaluated.
            value: its mAP; ``None`` (no objects) is below every number.
            model: the evaluated model.
        """
        if value is None or (self.map is not None and value <= self.map):
            return False
        self.iteration, self.map = iteration, value
        self._weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        return True

    def put_into(self, model: nn.Module) -> None:
        """Gives ``model`` the best weights; it keeps its own where nothing was ever taken."""
        if self._weights:
            model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers."""
        return {"iteration": self.iteration, "map": self.map, "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.iteration, self.map, self._weights = state["iteration"], state["map"], dict(state["weights"])
