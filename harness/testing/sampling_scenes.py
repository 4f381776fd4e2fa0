"""Scenes for samplers: any assignment, with or without candidates, objects, ties and odd losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from harness.core.structures import (
    IGNORED,
    NEGATIVE,
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    Predictions,
    Sampler,
    SamplingResult,
)
from harness.testing.contract import over_tensors

KINDS = ("mixed", "positive", "negative", "ignored", "padded")


@dataclass(frozen=True)
class SamplingScene:
    """All that a sampler is given."""

    truth: GroundTruth
    candidates: Candidates
    assignment: Assignment
    noise: Tensor
    losses: CandidateLosses

    def sampled(self, sampler: Sampler | Callable[..., SamplingResult]) -> SamplingResult:
        """What the sampler makes of the scene."""
        return sampler(self.truth, self.candidates, self.assignment, noise=self.noise, losses=self.losses)

    def image(self, index: int | slice, size: int | None = None) -> SamplingScene:
        """One image of a batch (or a part of the batch), cut to its first ``size`` candidates."""

        def part(values: Tensor, per_candidate: bool) -> Tensor:
            return values[index][:size] if per_candidate else values[index]

        return over_tensors(self, part)

    def padded(self, image: int, size: int) -> SamplingScene:
        """The same batch in which one image has ``size`` candidates, the others being padding."""
        valid = self.candidates.valid.clone()
        valid[image, size:] = False
        gt_index = self.assignment.gt_index.masked_fill(~valid, IGNORED)
        return replace(
            self,
            candidates=replace(self.candidates, valid=valid),
            assignment=replace(self.assignment, gt_index=gt_index),
        )


def make_scene(
    seed: int, *, batch: int = 2, objects: int = 3, size: int = 40, kind: str = "mixed", coarse: bool = False
) -> SamplingScene:
    """A random batch of ``size`` candidates an image.

    Args:
        seed: of the scene.
        batch: images.
        objects: of an image.
        size: candidates of an image.
        kind: one of ``KINDS``, what the candidates are.
        coarse: draws all numbers from few values, so that most are equal to others.
    """
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        values = torch.rand(batch, *shape, generator=g)
        return (values * 4).floor() / 4 if coarse else values

    gt_index = torch.randint(IGNORED, max(objects, 1), (batch, size), generator=g)
    if kind == "positive":
        gt_index = gt_index.clamp(min=0)
    if objects == 0 or kind == "negative":
        gt_index = gt_index.clamp(max=NEGATIVE)
    if kind == "ignored":
        gt_index = torch.full_like(gt_index, IGNORED)
    valid = torch.rand(batch, size, generator=g) < 0.85
    if kind == "padded":
        valid = torch.zeros_like(valid)
    gt_index = gt_index.masked_fill(~valid, IGNORED)
    corner = uniform(size, 2) * 60
    boxes = torch.cat((corner, corner + 20 + uniform(size, 2) * 40), -1)
    labels = torch.randint(0, 3, (batch, objects), generator=g)
    real = torch.ones(batch, objects, dtype=torch.bool)
    predictions = Predictions(uniform(size, 3), boxes + uniform(size, 4))
    return SamplingScene(
        GroundTruth(torch.rand(batch, objects, 4, generator=g), labels, real, ~real),
        Candidates(boxes, valid, predictions=predictions),
        Assignment(gt_index, uniform(size)),
        uniform(size),
        CandidateLosses(uniform(size), uniform(size)),
    )


def odd_losses(scene: SamplingScene, seed: int) -> SamplingScene:
    """The scene with losses that are sometimes NaN, infinite, negative or minus zero."""
    odd = torch.tensor([0.5, 0.0, -0.0, -1.5, torch.inf, -torch.inf, torch.nan, 2.0])
    g = torch.Generator().manual_seed(seed)
    pick = torch.randint(0, len(odd), scene.noise.shape, generator=g)
    return replace(scene, losses=CandidateLosses(odd[pick], torch.zeros_like(scene.noise)))


def every_scene() -> Iterator[tuple[str, SamplingScene]]:
    """Scenes with a name: no objects, no candidates, one of each, candidates of one kind, ties, odd losses."""
    for number, (size, objects, kind) in enumerate(product((0, 1, 2, 24), (0, 1, 5), KINDS)):
        scene = make_scene(number, batch=1 + number % 3, objects=objects, size=size, kind=kind, coarse=number % 2 == 0)
        name = f"{size} candidates ({kind}), {objects} objects"
        yield name, scene
        yield f"{name}, losses that are not finite", odd_losses(scene, number)
