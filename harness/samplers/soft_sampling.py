"""Soft sampling: negatives far from every object weigh less, because one may be there that nobody annotated."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, Sampler, SamplingResult
from harness.samplers.building_blocks.wrapping import WrappingSampler


class SoftSampler(WrappingSampler):
    """Weights of the negatives by their overlap with an object (Wu et al. 2019, "Soft sampling for robust object
    detection", section 4, overlap based).

    Another sampler chooses. A negative of IoU ``o`` with its best object then weighs ``a + (1 - a) exp(-b exp(-c o))``,
    a Gompertz function: 1 near an object, where a negative surely is one, and ``a`` without overlap, where images with
    missing annotations may hide an object. Positives keep their weight.

    Left out: the paper's second form, by the scores of a detector that was trained before.

    Args:
        of: the sampler that chooses.
        a: least weight, above 0 and at most 1.
        b: displacement of the curve along the IoU, >= 0.
        c: its growth rate, >= 0.

    Raises:
        ValueError: a value is out of its range, or ``of`` is not a sampler.
    """

    def __init__(self, of: Sampler, a: float = 0.25, b: float = 50.0, c: float = 20.0) -> None:
        super().__init__(of, frozenset({Need.SHAPES}))
        self.a = limits.above("a", a, 0, 1)
        self.b = limits.at_least("b", b, 0)
        self.c = limits.at_least("c", c, 0)

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples as the other sampler does; ``noise`` and ``losses`` where that one needs them."""
        sample = self.of(truth, candidates, assignment, noise=noise, losses=losses)
        overlap = sample.take(assignment.max_iou.detach()).float()
        soft = self.a + (1 - self.a) * torch.exp(-self.b * torch.exp(-self.c * overlap))
        return replace(sample, weight=torch.where(sample.negative, sample.weight * soft, sample.weight))
