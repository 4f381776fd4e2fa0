"""Images with a high loss come back sooner."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.data.image_samplers.presence import ClassPresence


class HardReplaySampler:
    """Rank-based selection by the latest loss (Loshchilov and Hutter 2016, "Online batch selection for faster training
    of neural networks", eq. 1 to 4).

    Images are ranked by their loss when they were last trained on, those that never were first. The weight falls
    exponentially with the rank, from ``pressure`` for the hardest image to 1 for the easiest one.

    Left out: the paper draws each batch anew and lets the pressure fall during training; here the images of a whole
    epoch are drawn before it, so that loading processes may work ahead, and the pressure stays.

    Args:
        pressure: >= 1: how many times as often the hardest image is seen as the easiest one; 1 is uniform.

    Raises:
        ValueError: a pressure below 1.
    """

    needs_losses = True

    def __init__(self, pressure: float = 10.0) -> None:
        self.pressure = limits.at_least("pressure", pressure, 1)

    def weights(self, presence: ClassPresence, losses: Tensor | None = None) -> Tensor:
        """``(N,)``; without losses all alike."""
        count = presence.num_images
        if losses is None or bool(losses.isinf().all()):
            return torch.ones(count, dtype=torch.float64)
        order = losses.argsort(descending=True, stable=True)
        rank = torch.empty(count, dtype=torch.float64)
        rank[order] = torch.arange(count, dtype=torch.float64)
        return torch.pow(self.pressure, 1 - rank / max(1, count - 1))
