"""Adaptive class suppression loss: only confusing classes are pushed down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Activation
from harness.losses.class_counts import CountedClassificationLoss
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.counted_noise import CountedNoise
from harness.losses.whole_batch import WholeBatch


class ACSLLoss(CountedClassificationLoss):
    """Sigmoid cross entropy over the columns that matter to a slot (Wang et al. 2021, "Adaptive class suppression loss
    for long-tail object detection", eq. 5 and 6, and the authors' treatment of the background).

    On a slot with an object its own class counts, and every column whose score is at least ``score_thr``. On a slot
    without an object the background's column counts, and the columns of the classes of a frequency group on a share of
    these slots that is drawn at random: few for the rare classes, more for the common, all for the frequent ones.

    The authors' code ignores the slots' weights and its own weight; here both count.

    State: the draws. The noise is a function of torch's seed when the loss is prepared and of the number of training
    steps. In evaluation mode, where hard example mining ranks, all columns count on slots without an object.

    Args:
        score_thr: in [0, 1].
        rare_images: classes in at most so many training images are rare, >= 0 (LVIS: 10).
        common_images: the others in at most so many are common (LVIS: 100); all others are frequent.
        background_shares: of the slots without an object that count for rare, common and frequent classes, in [0, 1].
        background_column: whether the last column is the background's (RoI heads); false for a one-stage head.

    Raises:
        ValueError: a parameter out of range.
    """

    activation: ClassVar[Activation] = Activation.SIGMOID

    def __init__(
        self,
        score_thr: float = 0.7,
        rare_images: int = 10,
        common_images: int = 100,
        background_shares: Sequence[float] = (0.01, 0.1, 1.0),
        background_column: bool = True,
    ) -> None:
        super().__init__()
        self.score_thr = limits.between("score_thr", score_thr, 0, 1)
        self.rare_images = limits.count("rare_images", rare_images, 0)
        self.common_images = limits.count("common_images", common_images, rare_images)
        shares = tuple(background_shares)
        fits = len(shares) == 3 and all(0 <= share <= 1 for share in shares)
        limits.require(fits, "background_shares", list(shares), "three numbers between 0 and 1")
        self.background_shares = shares
        self.background_last = background_column
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
        drawn = self.drawn(logits, target, weight)
        if self.training:
            self.noise.advance()
        return self.over(logits, target, drawn)

    def over(self, logits: Tensor, target: Tensor, drawn: Tensor) -> Tensor:
        """``(*, S, C)``: the loss where ``drawn (3, *, S)``, bool, says which slots without an object count for the
        rare, the common and the frequent classes."""
        columns = logits.shape[-1]
        none = target >= columns - int(self.background_last)
        group = (self.images > self.rare_images).long() + (self.images > self.common_images).long()
        on_background = drawn.movedim(0, -1)[..., group]
        if self.background_last:
            on_background = torch.cat((on_background[..., :-1], torch.ones_like(on_background[..., :1])), -1)
        confusing = logits.detach().sigmoid() >= self.score_thr
        own = target.unsqueeze(-1) == torch.arange(columns, device=target.device)
        counts = torch.where(none.unsqueeze(-1), on_background, confusing | own)
        return self.entropy.elementwise(logits, target) * counts

    @torch.no_grad()
    def drawn(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """``(3, *, S)`` bool: see :meth:`over`."""
        none = target >= logits.shape[-1] - int(self.background_last)
        if weight is not None:
            none = none & (weight > 0)
        if not self.training:
            return none.expand(3, *none.shape)
        batch = WholeBatch(none.shape)
        all_none = batch.gather(none, False).flatten()
        place = all_none.cumsum(0) - 1  # numbers go to the slots without an object in their order
        parts = []
        for purpose, share in enumerate(self.background_shares):
            noise = self.noise(place.numel(), purpose)[place.clamp(min=0)].masked_fill(~all_none, 2.0)
            order = noise.argsort(stable=True)
            rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
            counts = (rank < (all_none.sum() * share + 1e-4).floor()) & all_none
            parts.append(batch.own(counts).view(none.shape))
        return torch.stack(parts)
