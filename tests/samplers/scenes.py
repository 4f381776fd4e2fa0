"""Scenes for the tests of samplers: those of :mod:`harness.testing`, drawn by hypothesis, and samplers from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from hypothesis import strategies as st
from omegaconf import OmegaConf

from harness.core.structures import Sampler, SamplingResult
from harness.testing.contract import over_tensors
from harness.testing.sampling_scenes import KINDS, SamplingScene, make_scene, odd_losses

__all__ = [
    "CONF",
    "NAMES",
    "Scene",
    "from_yaml",
    "make_scene",
    "odd_losses",
    "over_tensors",
    "scenes",
    "taken",
]

CONF = Path(__file__).resolve().parents[2] / "conf" / "sampler"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
Scene = SamplingScene


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
