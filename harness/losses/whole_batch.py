"""The slots of the whole batch, for losses that rank or draw among all of them, when processes hold a part each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from harness.core.processes import gather_rows, own_rows, process_count


@dataclass(frozen=True)
class WholeBatch:
    """The slots of this process's part of a batch, ``shape``, and how they lie among those of all processes.

    With one process its methods return what they are given.
    """

    shape: tuple[int, ...]  # (*, S)

    def gather(self, values: Tensor, fill: float) -> Tensor:
        """``(*, S, ...)`` values of this process's slots to ``(T, ...)`` of all slots, with gradient.

        Slots that make the parts of all processes equally long hold ``fill``.
        """
        if process_count() == 1:
            return values
        return gather_rows(values.reshape(-1, *values.shape[len(self.shape) :]), fill)

    def weight(self, weight: Tensor | None, like: Tensor) -> Tensor | None:
        """The weights of all slots, 0 where there is none; ``None`` where all slots of the one process count.

        Args:
            weight: ``(*, S)``; ``None``: 1 each.
            like: a tensor of the wanted type and device.
        """
        if weight is None and process_count() == 1:
            return None
        return self.gather(like.new_ones(self.shape) if weight is None else weight, 0)

    def own(self, values: Tensor) -> Tensor:
        """``(T, ...)`` values of all slots back to the ``(*, S, ...)`` of this process."""
        if process_count() == 1:
            return values
        count = 1
        for length in self.shape:
            count *= length
        return own_rows(values, count).reshape(*self.shape, *values.shape[1:])
