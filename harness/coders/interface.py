"""What a head asks of a box coder."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Coder(Protocol):
    """Turns ``(*, 4)`` boxes into ``(*, 4)`` deltas relative to ``(*, 4)`` candidate boxes, and back.

    A coder that ``needs_stride`` gets ``(*, 5)`` candidates, the last column being the stride of each, px.

    Class-specific deltas ``(*, N, K, 4)`` are decoded against ``candidates.unsqueeze(-2)``. Factors are Python numbers
    that enter each column by itself: a tensor of them would be copied to the device, which blocks it, in every step.
    """

    @property
    def needs_stride(self) -> bool: ...

    def encode(self, boxes: Tensor, candidates: Tensor) -> Tensor: ...

    def decode(self, deltas: Tensor, candidates: Tensor) -> Tensor: ...
