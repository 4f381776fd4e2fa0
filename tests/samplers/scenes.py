"""Scenes for the tests of the samplers: any assignment, with or without candidates, objects and losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from hypothesis import strategies as st
from omegaconf import OmegaConf
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

CONF = Path(__file__).resolve().parents[2] / "conf" / "sampler"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
KINDS = ("mixed", "positive", "negative", "ignored", "padded")


@dataclass(frozen=True)
class Scene:
    """All that a sampler is given."""

    truth: GroundTruth
    candidates: Candidates
    assignment: Assignment
    noise: Tensor
    losses: CandidateLosses

    def sampled(self, sampler: Sampler | Callable[..., SamplingResult]) -> SamplingResult:
        return sampler(self.truth, self.candidates, self.assignment, noise=self.noise, losses=self.losses)

    def image(self, index: int | slice, size: int | None = None) -> Scene:
        """One image of a batch (or a part of the batch), cut to its first ``size`` candidates."""
        return over_tensors(
            self, lambda values, per_candidate: values[index][:size] if per_candidate else values[index]
        )


def over_tensors(value: Any, change: Callable[[Tensor, bool], Tensor], per_candidate: bool = True) -> Any:
    """A copy with every tensor changed; ``change`` is told whether the tensor's first own axis counts candidates."""
    if isinstance(value, Tensor):
        return change(value, per_candidate)
    if not is_dataclass(value):
        return value
    per_candidate = per_candidate and not isinstance(value, GroundTruth)
    return replace(
        value, **{f.name: over_tensors(getattr(value, f.name), change, per_candidate) for f in fields(value)}
    )


def make_scene(
    seed: int, *, batch: int = 2, objects: int = 3, size: int = 40, kind: str = "mixed", coarse: bool = False
) -> Scene:
    """A random batch. ``coarse`` draws all numbers from few values, so that most are equal to others."""
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
    valid &= kind != "padded"
    gt_index = gt_index.masked_fill(~valid, IGNORED)
    corner = uniform(size, 2) * 60
    boxes = torch.cat((corner, corner + 20 + uniform(size, 2) * 40), -1)
    labels = torch.randint(0, 3, (batch, objects), generator=g)
    real = torch.ones(batch, objects, dtype=torch.bool)
    predictions = Predictions(uniform(size, 3), boxes + uniform(size, 4))
    return Scene(
        GroundTruth(torch.rand(batch, objects, 4, generator=g), labels, real, ~real),
        Candidates(boxes, valid, predictions=predictions),
        Assignment(gt_index, uniform(size)),
        uniform(size),
        CandidateLosses(uniform(size), uniform(size)),
    )


def odd_losses(scene: Scene, seed: int) -> Scene:
    """The scene with losses that are sometimes NaN, infinite, negative or minus zero."""
    odd = torch.tensor([0.5, 0.0, -0.0, -1.5, torch.inf, -torch.inf, torch.nan, 2.0])
    g = torch.Generator().manual_seed(seed)
    pick = torch.randint(0, len(odd), scene.noise.shape, generator=g)
    return replace(scene, losses=CandidateLosses(odd[pick], torch.zeros_like(scene.noise)))


@st.composite
def scenes(draw: st.DrawFn, max_size: int = 24) -> Scene:
    """Any scene: no objects, no candidates, one of each, all of one kind, ties, odd losses."""
    seed = draw(st.integers(0, 10_000))
    scene = make_scene(
        seed,
        batch=draw(st.integers(1, 3)),
        objects=draw(st.sampled_from((0, 1, 2, 5))),
        size=draw(st.sampled_from((0, 1, 2, 7, max_size))),
        kind=draw(st.sampled_from(KINDS)),
        coarse=draw(st.booleans()),
    )
    return odd_losses(scene, seed) if draw(st.booleans()) else scene


def from_yaml(name: str, num: int = 16, pos_fraction: float = 0.25, **changes: Any) -> Sampler:
    """The sampler of ``conf/sampler/<name>.yaml`` beside a stage's quota."""
    node = OmegaConf.load(CONF / f"{name}.yaml")
    for key, value in changes.items():
        OmegaConf.update(node, key, value)
    stage = OmegaConf.create({"quota": {"num": num, "pos_fraction": pos_fraction}, "sampler": node})
    return instantiate(stage.sampler)


def taken(sample: SamplingResult) -> list[dict[int, tuple[bool, float]]]:
    """For every image of a batch: the candidates that train, whether as positives, and with what weight."""
    images = []
    for index, positive, weight in zip(sample.index, sample.positive, sample.weight, strict=True):
        used = [s for s in range(len(index)) if weight[s] > 0]
        images.append({int(index[s]): (bool(positive[s]), round(float(weight[s]), 5)) for s in used})
        assert len(images[-1]) == len(used), "a candidate was taken twice"
    return images
