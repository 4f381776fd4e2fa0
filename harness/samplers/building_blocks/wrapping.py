"""What samplers share that change the choice of another sampler."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from harness.core import limits
from harness.core.structures import MiningPlan, MiningSampler, Need, ReweightingSampler, Sampler, SamplingResult


class WrappingSampler:
    """Needs what the other sampler needs, and passes on what that one declares.

    Args:
        of: the other sampler.
        also: further needs.

    Raises:
        ValueError: ``of`` is not a sampler.
    """

    def __init__(self, of: Sampler, also: frozenset[Need] = frozenset()) -> None:
        limits.require(isinstance(of, Sampler), "of", type(of).__name__, "a sampler")
        self.of = of
        self.needs = of.needs | also
        self.add_gt_as_proposals = of.add_gt_as_proposals

    @property
    def mining(self) -> MiningPlan:
        """The other sampler's plan, where ``Need.MINING`` is among the needs."""
        return cast(MiningSampler, self.of).mining

    def class_weights(
        self, sample: SamplingResult, gt_index: Tensor, labels: Tensor, iou: Tensor, losses: Tensor
    ) -> Tensor:
        """The other sampler's factors, where ``Need.REWEIGHTING`` is among the needs."""
        return cast(ReweightingSampler, self.of).class_weights(sample, gt_index, labels, iou, losses)
