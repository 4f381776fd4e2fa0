"""Mining over the whole batch against one list of all candidates of all images."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.structures import Need
from harness.samplers.combined import CombinedSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.ohem_threshold import OHEMThresholdSampler
from harness.samplers.random import RandomSampler
from tests.samplers.oracles import Image
from tests.samplers.scenes import Scene, make_scene, scenes, taken

Member = tuple[int, int]  # image, candidate


def members(scene: Scene) -> tuple[dict[Member, float], dict[Member, float]]:
    """The losses of all positives and of all negatives of the batch; what is not a number is the least."""
    images = [Image.of(scene, i) for i in range(len(scene.noise))]

    def losses(kind: str) -> dict[Member, float]:
        found = {(b, i): image.cls[i] for b, image in enumerate(images) for i in getattr(image, kind)}
        return {member: -math.inf if math.isnan(loss) else loss for member, loss in found.items()}

    return losses("positives"), losses("negatives")


def hardest(losses: dict[Member, float], count: int) -> set[Member]:
    return set(sorted(losses, key=lambda member: (-losses[member], member))[:count])


def chosen(scene: Scene, sampler: OHEMSampler | OHEMThresholdSampler) -> set[Member]:
    found = taken(scene.sampled(sampler))
    assert all(weight == 1 for image in found for _, weight in image.values())
    return {(b, i) for b, image in enumerate(found) for i in image}


@settings(max_examples=60, deadline=None)
@given(scene=scenes(), num=st.sampled_from((1, 4, 9)), bound=st.sampled_from((-1, 0, 1.5)))
def test_ohem_with_quotas_of_the_batch(scene: Scene, num: int, bound: float) -> None:
    positives, negatives = members(scene)
    images = len(scene.noise)
    expected = hardest(positives, int(num * 0.5) * images)
    left = num * images - len(expected)
    left = min(left, int(bound * max(1, len(expected)))) if bound >= 0 else left
    expected |= hardest(negatives, left)
    assert chosen(scene, OHEMSampler(num, 0.5, bound, scope="batch")) == expected


@settings(max_examples=60, deadline=None)
@given(scene=scenes(), num=st.sampled_from((1, 4, 9)))
def test_ohem_with_one_quota_of_the_batch(scene: Scene, num: int) -> None:
    positives, negatives = members(scene)
    expected = hardest(positives | negatives, num * len(scene.noise))
    assert chosen(scene, OHEMSampler(num, 0.5, separate_quotas=False, scope="batch")) == expected


@settings(max_examples=60, deadline=None)
@given(scene=scenes(), num=st.sampled_from((1, 4, 30)))
def test_all_that_reach_the_threshold(scene: Scene, num: int) -> None:
    positives, negatives = members(scene)
    everyone = positives | negatives
    ordered = sorted(everyone.values(), reverse=True)
    expected = {m for m, loss in everyone.items() if loss >= ordered[min(num, len(ordered)) - 1]}
    assert chosen(scene, OHEMThresholdSampler(num)) == expected


def test_an_image_with_harder_candidates_gets_more_places() -> None:
    scene = make_scene(0, batch=2, size=60)
    scene.losses.classification[1] += 10
    found = taken(scene.sampled(OHEMSampler(8, 0.5, separate_quotas=False, scope="batch")))
    assert [len(image) for image in found] == [0, 16]


def test_what_looks_at_the_batch_says_so() -> None:
    assert Need.BATCH in OHEMSampler(8, 0.5, scope="batch").needs
    assert Need.BATCH not in OHEMSampler(8, 0.5).needs
    assert Need.BATCH in OHEMThresholdSampler().needs
    with pytest.raises(ValueError, match="scope='all' must be one of image, batch"):
        OHEMSampler(8, 0.5, scope="all")
    with pytest.raises(ValueError, match=r"^pos='OHEMSampler' must be a sampler that ranks within a quota"):
        CombinedSampler(8, 0.5, pos=OHEMSampler(8, 0.5, scope="batch"), neg=RandomSampler(8, 0.5))
    assert torch.equal(
        make_scene(1, batch=1).sampled(OHEMSampler(8, 0.5, scope="batch")).weight.sum(),
        make_scene(1, batch=1).sampled(OHEMSampler(8, 0.5)).weight.sum(),
    )
