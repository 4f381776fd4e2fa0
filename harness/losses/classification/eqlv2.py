"""Equalization loss v2: gradient-balanced sigmoids for long-tailed classes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.core import limits
from harness.core.processes import reduce_sum
from harness.core.structures import Activation
from harness.losses.columns import off_entropy, replace_column, target_column
from harness.losses.interface import ClassificationLoss


class EQLv2Loss(ClassificationLoss):
    """Sigmoid cross entropy with weights for the positives and negatives of each class (Tan 2021, "Equalization loss
    v2", eq. 5 to 8).

    With ``g`` the accumulated gradient of a class's positives over that of its negatives, the negatives have the weight
    ``r = sigmoid(gamma (g - mu))`` and the positives ``1 + alpha (1 - r)``. With ``background_column`` the last column
    is the background's, always has the weight 1, and its complement multiplies the scores (section 3.3).

    State: the accumulated gradients of each class. They enter the weights from the next call on.

    Args:
        mu: ratio at which a class's negatives have half their weight, >= 0.
        gamma: steepness of that sigmoid, >= 0.
        alpha: how much the positives of a weakened class gain, >= 0.
        background_column: false for a sigmoid head without a background column (one-stage).
        columns: of the logits, where the loss is used without a criterion; see :meth:`prepare`.

    Raises:
        ValueError: a parameter below 0.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID
    pos_grad: Tensor
    neg_grad: Tensor
    pos_neg: Tensor

    def __init__(
        self,
        mu: float = 0.8,
        gamma: float = 12.0,
        alpha: float = 4.0,
        background_column: bool = True,
        columns: int | None = None,
    ) -> None:
        super().__init__()
        self.mu = limits.at_least("mu", mu, 0)
        self.gamma = limits.at_least("gamma", gamma, 0)
        self.alpha = limits.at_least("alpha", alpha, 0)
        self.background_last = background_column
        self.columns: int | None = None
        if columns is not None:
            self.prepare(columns)

    def prepare(self, columns: int) -> None:
        """Allocates one accumulator per class."""
        if self.columns == columns:
            return
        if self.columns is not None:
            raise ValueError(f"EQLv2Loss keeps state for {self.columns} columns; it cannot serve {columns} as well")
        self.columns = columns
        classes = columns - int(self.background_last)
        self.register_buffer("pos_grad", torch.zeros(classes))
        self.register_buffer("neg_grad", torch.zeros(classes))
        self.register_buffer("pos_neg", torch.full((classes,), 100.0))  # until seen, a class counts as balanced

    def activation_of(self, logits: Tensor) -> Tensor:
        """``(*, C)`` sigmoids; the classes times the probability that it is no background."""
        scores = logits.sigmoid()
        if not self.background_last:
            return scores
        background = scores[..., -1:]
        return torch.cat((scores[..., :-1] * (1 - background), background), -1)

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``.

        Raises:
            ValueError: not prepared for this number of columns.
        """
        if self.columns != logits.shape[-1]:
            raise ValueError(f"EQLv2Loss is prepared for {self.columns} columns, the logits have {logits.shape[-1]}")
        negative = torch.sigmoid(self.gamma * (self.pos_neg.to(logits.dtype) - self.mu))
        if self.background_last:
            negative = F.pad(negative, (0, 1), value=1.0)
        positive = 1 + self.alpha * (1 - negative)
        index, on = target_column(logits, target)
        logit = logits.gather(-1, index)
        factor = torch.where(on, positive[index], negative[index])
        at_target = off_entropy(torch.where(on, -logit, logit)) * factor
        loss = replace_column(off_entropy(logits) * negative, index, at_target)
        if self.training:
            self._accumulate(logits.detach(), target, positive, negative, weight)
        return loss

    @torch.no_grad()
    def _accumulate(
        self, logits: Tensor, target: Tensor, positive: Tensor, negative: Tensor, weight: Tensor | None
    ) -> None:
        logits, target = logits.flatten(0, -2), target.flatten()
        hit = target.unsqueeze(-1) == torch.arange(logits.shape[-1], device=logits.device)
        probability = logits.sigmoid()
        exists = torch.ones_like(probability) if weight is None else (weight > 0).flatten().unsqueeze(-1)
        classes = self.pos_grad.shape[0]
        on, off = ((1 - probability) * hit * exists).sum(0), (probability * ~hit * exists).sum(0)
        gained, lost = (reduce_sum(torch.stack((on * positive, off * negative)))[:, :classes]).unbind()
        self.pos_grad.add_(gained.to(self.pos_grad.dtype))
        self.neg_grad.add_(lost.to(self.neg_grad.dtype))
        self.pos_neg.copy_(self.pos_grad / (self.neg_grad + 1e-10))
