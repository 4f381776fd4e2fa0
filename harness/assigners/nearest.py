"""The candidates nearest to every object, as a fixed number of slots."""

from __future__ import annotations

from torch import Tensor, inf
from torch.nn.functional import pad

from harness.assigners.top_pairs import lowest


def nearest(distance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` candidates of the lowest ``distance (*, G, N)``, in order, exact ties to the lower index.

    Distances are ranked in float32. There are always ``k`` slots, also where there are fewer candidates, so that what
    is summed over the slots does not depend on the padding.

    Returns:
        ``(*, G, k)`` int64 indices, and ``(*, G, k)`` bool, False where a slot has no candidate at a finite distance.
    """
    distance = distance.float()
    missing = k - distance.shape[-1]
    if missing > 0:
        distance = pad(distance, (0, missing), value=inf)
    index = lowest(distance, k)
    real = distance.gather(-1, index).isfinite()
    return index.masked_fill(~real, 0), real
