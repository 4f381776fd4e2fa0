"""Images of rare classes more often."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.data.image_samplers.presence import ClassPresence


class RepeatFactorSampler:
    """Repeat factor sampling (Gupta et al. 2019, "LVIS", section 5.2; after Mahajan et al. 2018).

    A class ``c`` in a share ``f_c`` of the images has the factor ``max(1, sqrt(t / f_c))``; an image that of its rarest
    class, and 1 without objects. The paper lengthens the epoch by the repeats; here an epoch keeps its length, and the
    factors say how often images are seen relative to each other.

    Args:
        repeat_thresh: the share ``t`` of images below which a class counts as rare, in (0, 1]; LVIS: 0.001.
        sqrt: whether the factor is the root of ``t / f_c``, or ``t / f_c`` itself.

    Raises:
        ValueError: a threshold out of range.
    """

    needs_losses = False

    def __init__(self, repeat_thresh: float = 0.001, sqrt: bool = True) -> None:
        self.repeat_thresh = limits.above("repeat_thresh", repeat_thresh, 0, 1)
        self.sqrt = sqrt

    def weights(self, presence: ClassPresence, losses: Tensor | None = None) -> Tensor:
        """``(N,)``: the images' factors."""
        share = presence.images_of_class.double() / presence.num_images
        factor = self.repeat_thresh / share  # infinite for a class without images, which no image has
        factor = (factor.sqrt() if self.sqrt else factor).clamp(min=1)
        ones = torch.ones(presence.num_images, dtype=torch.float64)
        return ones.scatter_reduce(0, presence.image, factor[presence.label], "amax")
