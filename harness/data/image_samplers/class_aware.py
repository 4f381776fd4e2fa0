"""All classes equally often."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.image_samplers.presence import ClassPresence


class ClassAwareSampler:
    """Class-aware sampling (Shen et al. 2016, "Relay backpropagation", section 4.1): a class, then one of its images.

    Both are drawn uniformly, so an image is seen in proportion to the sum, over its classes, of one over the number of
    images of that class. Images without objects are never seen, as in the paper.
    """

    needs_losses = False

    def weights(self, presence: ClassPresence, losses: Tensor | None = None) -> Tensor:
        """``(N,)``.

        Raises:
            ValueError: no image has an object.
        """
        if len(presence.image) == 0:
            raise ValueError("image_sampler=class_aware: no training image has an object")
        share = 1 / presence.images_of_class.double()
        zeros = torch.zeros(presence.num_images, dtype=torch.float64)
        return zeros.scatter_add(0, presence.image, share[presence.label])
