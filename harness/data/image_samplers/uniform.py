"""Every image once an epoch."""

from __future__ import annotations

from torch import Tensor

from harness.data.image_samplers.presence import ClassPresence


class UniformImageSampler:
    """Every image exactly once an epoch, in random order."""

    needs_losses = False

    def weights(self, presence: ClassPresence, losses: Tensor | None = None) -> Tensor | None:
        """``None``."""
        return None
