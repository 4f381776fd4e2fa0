"""Cross entropy of the two bins beside the target."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from harness.losses.interface import RegressionLoss, Space


class DistributionFocalLoss(RegressionLoss):
    """``-(i + 1 - y) log p_i - (y - i) log p_{i+1}`` for each side, where ``y`` is its distance in bins and ``i`` the
    bin below it (Generalized Focal Loss, Li 2020, eq. 6). ``p`` is the softmax over the bins 0, 1, ..., n - 1.

    The loss of a slot is the sum over its four sides; the published weight is that of their mean.
    """

    space: ClassVar[Space] = Space.DISTRIBUTION
    published_weight: Mapping[str, float] = MappingProxyType({"dense": 0.0625})  # .25 of the mean over the sides

    def elementwise(self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """The shape of ``target``.

        Args:
            prediction: logits ``(*, n)``, or ``(*, S, 4 n)`` where ``target`` is ``(*, S, 4)``.
            target: ``(*,)`` distances in bins; clamped to [0, n - 1].
            weight: not used.
        """
        if prediction.dim() == target.dim():
            prediction = prediction.unflatten(-1, (target.shape[-1], -1))
        last = prediction.shape[-1] - 1
        target = target.clamp(0, last)
        left = target.floor().clamp(max=last - 1)
        share = target - left  # of the right bin
        index = left.long().unsqueeze(-1)
        log_p = prediction.log_softmax(-1)
        left_log_p, right_log_p = log_p.gather(-1, index).squeeze(-1), log_p.gather(-1, index + 1).squeeze(-1)
        return -left_log_p * (1 - share) - right_log_p * share
