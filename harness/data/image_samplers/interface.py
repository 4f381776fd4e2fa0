"""What the training asks of an image sampler."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from harness.data.image_samplers.presence import ClassPresence


@runtime_checkable
class ImageSampler(Protocol):
    """Chooses how often each training image is seen in an epoch. Pure: no state, no randomness.

    An epoch is as many images as the training split has, whatever the sampler: runs of equal length cost the same.
    """

    @property
    def needs_losses(self) -> bool:
        """Whether the weights depend on the recorded losses: then they are asked for again before every epoch."""

    def weights(self, presence: ClassPresence, losses: Tensor | None = None) -> Tensor | None:
        """``(N,)`` float64 >= 0: how often an image is seen, relative to the others; ``None``: each exactly once.

        Args:
            presence: the classes of each image.
            losses: ``(N,)``, the loss of each image when it was last trained on, infinite where it never was; given
                where :attr:`needs_losses`.
        """
