"""Seesaw loss: a softmax whose rare classes are punished less by the frequent ones."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.core import limits
from harness.core.processes import reduce_sum
from harness.core.structures import Activation
from harness.losses.interface import ClassificationLoss


class SeesawLoss(ClassificationLoss):
    """Softmax cross entropy whose other classes enter with ``log(mitigation x compensation)`` (Wang 2021, eq. 3 to 6).

    Two layouts of the logits:

    - ``objectness=True``, the paper's (section 3.3): ``K + 2`` columns, the ``K`` classes, then object and no object.
      The target ``K`` is the background. A slot with an object learns its class among the ``K`` and that it is one.
    - ``objectness=False``, for a head with one background column: ``K + 1`` columns, the background last. The classes
      seesaw among themselves; the background takes no part in it.

    State: how often each class, and the background, was a target.

    Args:
        p: exponent of the mitigation by class frequency, >= 0; 0 switches it off.
        q: exponent of the compensation of wrong scores, >= 0; 0 switches it off.
        eps: lower bound of the true class's score in the compensation, > 0.
        objectness: see above.
        columns: of the logits, where the loss is used without a criterion; see :meth:`prepare`.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SOFTMAX
    cum_samples: Tensor

    def __init__(
        self, p: float = 0.8, q: float = 2.0, eps: float = 1e-2, objectness: bool = True, columns: int | None = None
    ) -> None:
        super().__init__()
        self.p = limits.at_least("p", p, 0)
        self.q = limits.at_least("q", q, 0)
        self.eps = limits.above("eps", eps, 0)
        self.objectness = objectness
        self.background_last = not objectness
        self.extra_columns = int(objectness)
        self.columns: int | None = None
        if columns is not None:
            self.prepare(columns)

    def prepare(self, columns: int) -> None:
        """Allocates one counter per class and one for the background."""
        if self.columns == columns:
            return
        if self.columns is not None:
            raise ValueError(f"SeesawLoss keeps state for {self.columns} columns; it cannot serve {columns} as well")
        if columns < 2 + self.extra_columns:
            raise ValueError(f"SeesawLoss: {columns} columns are too few for a class and the background")
        self.columns = columns
        # Integers: a long run passes 2^24 background slots, where counting by ones stops in float32.
        self.register_buffer("cum_samples", torch.zeros(columns - self.extra_columns, dtype=torch.int64))

    def activation_of(self, logits: Tensor) -> Tensor:
        """``(*, K + 1)`` probabilities of the classes and, last, the background."""
        if not self.objectness:
            return logits.softmax(-1)
        is_object, is_none = logits[..., -2:].softmax(-1).split(1, -1)
        return torch.cat((logits[..., :-2].softmax(-1) * is_object, is_none), -1)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S)``, the sum of :meth:`terms`."""
        classes, objectness = self.terms(logits, target, weight=weight)
        return classes + objectness

    def terms(self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(*, S)`` loss of the class and ``(*, S)`` loss of the objectness.

        The first is 0 in slots without an object, the second everywhere where the layout has no objectness.

        Raises:
            ValueError: not prepared for this number of columns.
        """
        if self.columns != logits.shape[-1]:
            raise ValueError(f"SeesawLoss is prepared for {self.columns} columns, the logits have {logits.shape[-1]}")
        num_classes = self.cum_samples.shape[0] - 1
        if self.training:
            exists = torch.ones_like(target) if weight is None else (weight > 0).to(target.dtype)
            counted = torch.zeros_like(self.cum_samples).scatter_add_(0, target.flatten(), exists.flatten())
            self.cum_samples.add_(reduce_sum(counted))
        positive = target < num_classes
        label = target.masked_fill(~positive, 0)
        seesaw = self._log_factors(logits[..., :num_classes].detach(), label)
        if not self.objectness:
            seesaw = F.pad(seesaw * positive.unsqueeze(-1), (0, 1))
            return _cross_entropy(logits + seesaw, target), torch.zeros_like(logits[..., 0])
        classes = _cross_entropy(logits[..., :num_classes] + seesaw, label).masked_fill(~positive, 0.0)
        return classes, _cross_entropy(logits[..., num_classes:], (~positive).to(target.dtype))

    @torch.no_grad()
    def _log_factors(self, logits: Tensor, label: Tensor) -> Tensor:
        """``(*, S, K)`` logarithms of the factors with which the classes enter a slot's softmax; 0 for its own."""
        count = self.cum_samples[:-1].clamp(min=1).to(logits.dtype).log()
        log_scores = logits.log_softmax(-1)
        own = log_scores.gather(-1, label.unsqueeze(-1)).clamp(min=math.log(self.eps))
        mitigation = self.p * (count - count[label].unsqueeze(-1)).clamp(max=0)
        return mitigation + self.q * (log_scores - own).clamp(min=0)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)
