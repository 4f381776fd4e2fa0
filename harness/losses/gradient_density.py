"""How many examples have about the same gradient norm: what both gradient harmonizing losses divide by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.core import limits
from harness.core.processes import reduce_sum


class GradientDensity(nn.Module):
    """Harmonizing weights from a histogram of gradient norms (Li 2019, section 3.3).

    An example's weight is ``total / (density x bins in use)``, the density being the number of examples in its bin,
    with a momentum that of the past calls, too. The bins that hold an example of this call are in use.

    Args:
        bins: of equal width in [0, 1], >= 1.
        momentum: share of the past in a bin's density, in [0, 1); 0 keeps no state.

    Raises:
        ValueError: a parameter out of range.
    """

    edges: Tensor
    density: Tensor

    def __init__(self, bins: int, momentum: float) -> None:
        super().__init__()
        self.bins = limits.count("bins", bins, 1)
        self.momentum = limits.require(0 <= momentum < 1, "momentum", momentum, "at least 0 and below 1")
        self.register_buffer("edges", torch.arange(1, bins) / bins, persistent=False)
        self.register_buffer("density", torch.zeros(bins), persistent=momentum > 0)

    def forward(self, norm: Tensor, valid: Tensor, total: Tensor) -> Tensor:
        """Weights of ``norm``'s shape, 0 where not valid. The density is that of all processes.

        Args:
            norm: gradient norms in [0, 1].
            valid: bool, which of them exist.
            total: scalar, of all processes; the weights sum to about this.
        """
        index = torch.bucketize(norm, self.edges.to(norm.dtype), right=True)
        # Integers: counting by ones stops at 2^24 in float32, which 200,000 anchors x 91 classes pass.
        count = torch.zeros(self.bins, dtype=torch.int64, device=norm.device)
        count = count.scatter_add_(0, index.flatten(), valid.flatten().to(torch.int64))
        count = reduce_sum(count)
        used = count > 0
        density = count.to(norm.dtype)
        if self.momentum > 0:
            blended = self.momentum * self.density.to(norm.dtype) + (1 - self.momentum) * density
            density = torch.where(used, blended, self.density.to(norm.dtype))
            if self.training:
                self.density.copy_(density)
        weight = total / (density * used.sum()).clamp(min=torch.finfo(norm.dtype).tiny)
        return weight.where(used, 0.0)[index] * valid
