"""Federated loss: only some classes count in a step."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.processes import reduce_sum
from harness.core.structures import Activation
from harness.losses.class_counts import CountedClassificationLoss
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.counted_noise import CountedNoise


class FederatedLoss(CountedClassificationLoss):
    """Sigmoid cross entropy over a subset of the classes (Zhou et al. 2021, "Probabilistic two-stage detection",
    section 5.1; CenterNet2 and Detic on LVIS).

    The classes that occur among the slots of the batch always count. The others are drawn without replacement, with
    probabilities proportional to ``images^power``, until ``num_classes`` count. In all other columns the loss is 0, so
    that a class is not pushed down by images in which nobody looked for it.

    detectron2 lets the background label take the place of one of the classes; here it takes none.

    State: the draws. The noise is a function of torch's seed when the loss is prepared and of the number of training
    steps. In evaluation mode, where hard example mining ranks, the classes are those of the next step.

    Args:
        num_classes: how many classes count, >= 1.
        power: of the number of images, >= 0; the paper takes the root.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID

    def __init__(self, num_classes: int = 50, power: float = 0.5) -> None:
        super().__init__()
        self.num_classes = limits.count("num_classes", num_classes, 1)
        self.power = limits.at_least("power", power, 0)
        self.noise = CountedNoise()
        self.entropy = BinaryCrossEntropyLoss()

    def prepare(self, columns: int) -> None:
        """Seeds the draws."""
        self.noise.seed(torch.initial_seed())

    def elementwise(
        self, logits: Tensor, target: Tensor, *, weight: Tensor | None = None, quality: Tensor | None = None
    ) -> Tensor:
        """``(*, S, C)``.

        Raises:
            ValueError: the class counts are missing.
        """
        self.check_counts(logits)
        counted = self.counted(target, logits.shape[-1], weight)
        if self.training:
            self.noise.advance()
        return self.over(logits, target, counted)

    def over(self, logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
        """``(*, S, C)``: the loss where exactly the classes ``counted (C,)``, bool, count."""
        return self.entropy.elementwise(logits, target) * counted

    @torch.no_grad()
    def counted(self, target: Tensor, columns: int, weight: Tensor | None = None) -> Tensor:
        """``(C,)`` bool: the classes that count in this step."""
        exists = torch.ones_like(target, dtype=torch.bool) if weight is None else weight > 0
        seen = torch.zeros(columns + 1, dtype=torch.int64, device=target.device)
        label = target.masked_fill(~exists, columns)  # the last entry is the background's
        occurs = reduce_sum(seen.scatter_add(0, label.flatten(), torch.ones_like(label).flatten()))[:-1] > 0
        # The largest of log(weight) plus Gumbel noise are a draw without replacement (Vieira 2014).
        noise = self.noise(columns)
        key = self.power * self.images.to(noise.dtype).log() - (-noise.log()).log()
        order = key.masked_fill(occurs, torch.inf).argsort(descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(columns, device=order.device))
        return occurs | (rank < self.num_classes) & (self.images > 0)
