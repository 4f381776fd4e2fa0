"""Every sampler against its naive form, candidate by candidate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.structures import Sampler
from harness.samplers.combined import CombinedSampler
from harness.samplers.iou_balanced import IoUBalancedSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler
from harness.samplers.score_hlr import ScoreHLRSampler
from tests.samplers import oracles
from tests.samplers.oracles import ORACLES, Image, Weights
from tests.samplers.scenes import NAMES, Scene, from_yaml, make_scene, scenes, taken


def assert_same(sampler: Sampler, scene: Scene, *expected: Weights) -> None:
    for ours, theirs in zip(taken(scene.sampled(sampler)), expected, strict=True):
        assert ours.keys() == theirs.keys()
        for candidate, (positive, weight) in theirs.items():
            assert ours[candidate][0] == positive
            assert ours[candidate][1] == pytest.approx(weight, rel=1e-4)


def images(scene: Scene) -> list[Image]:
    return [Image.of(scene, i) for i in range(len(scene.noise))]


OF_THE_BATCH = {"ohem_threshold"}  # tests/samplers/test_batch.py


def test_every_sampler_has_an_oracle() -> None:
    assert set(ORACLES) | OF_THE_BATCH == set(NAMES)


@pytest.mark.parametrize("name", sorted(ORACLES))
@settings(max_examples=60, deadline=None)
@given(scene=scenes(), num=st.sampled_from((1, 4, 9, 64)), pos_fraction=st.sampled_from((0.0, 0.25, 0.5, 1.0)))
def test_equals_its_oracle(name: str, scene: Scene, num: int, pos_fraction: float) -> None:
    expected = [ORACLES[name](image, num, pos_fraction) for image in images(scene)]
    assert_same(from_yaml(name, num, pos_fraction), scene, *expected)


# Among equal boxes an IoU may lie at the threshold itself, where rounding decides.
TIES_OF_BOXES = {"ohem_paper", "matched_random", "score_hlr", "pisa", "loss_rank_mining"}


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_equals_its_oracle_among_many(name: str) -> None:
    """As many candidates as make the choice go through chunks."""
    scene = make_scene(11, batch=2, size=900, coarse=name not in TIES_OF_BOXES)
    assert_same(from_yaml(name, 4, 0.5), scene, *(ORACLES[name](image, 4, 0.5) for image in images(scene)))


@settings(max_examples=60, deadline=None)
@given(
    scene=scenes(max_size=60),
    num=st.sampled_from((4, 9, 30)),
    floor_thr=st.sampled_from((-1, 0, 0.1, 0.3)),
    floor_fraction=st.sampled_from((0, 0.3, 0.5, 1)),
    num_bins=st.sampled_from((1, 2, 3, 7)),
    neg_pos_ub=st.sampled_from((-1, 0, 1.5, 3)),
)
def test_iou_balanced_with_a_floor(
    scene: Scene, num: int, floor_thr: float, floor_fraction: float, num_bins: int, neg_pos_ub: float
) -> None:
    bins = {"floor_thr": floor_thr, "floor_fraction": floor_fraction, "num_bins": num_bins}
    sampler = IoUBalancedSampler(num, 0.25, neg_pos_ub=neg_pos_ub, **bins)
    expected = [oracles.iou_balanced(image, num, 0.25, neg_pos_ub, **bins) for image in images(scene)]
    assert_same(sampler, scene, *expected)


@settings(max_examples=40, deadline=None)
@given(scene=scenes(), neg_pos_ub=st.sampled_from((-1, 0, 0.4, 1.5, 3, 100)))
def test_bound_of_negatives(scene: Scene, neg_pos_ub: float) -> None:
    for sampler, oracle in ((RandomSampler, oracles.random), (OHEMSampler, oracles.ohem)):
        expected = [oracle(image, 12, 0.5, neg_pos_ub) for image in images(scene)]
        assert_same(sampler(12, 0.5, neg_pos_ub), scene, *expected)


@settings(max_examples=30, deadline=None)
@given(scene=scenes())
def test_combined_takes_any_two_rankings(scene: Scene) -> None:
    sampler = CombinedSampler(8, 0.5, pos=OHEMSampler(1, 0), neg=RandomSampler(1, 0))
    expected = []
    for image in images(scene):
        positives = oracles.first(image.positives, image.cls, 4)
        expected.append(oracles.ones(positives, oracles.first(image.negatives, image.noise, 8 - len(positives))))
    assert_same(sampler, scene, *expected)


@settings(max_examples=30, deadline=None)
@given(scene=scenes())
def test_combined_keeps_the_weights_of_its_negatives(scene: Scene) -> None:
    ranker = ScoreHLRSampler(1, 0)
    sampler = CombinedSampler(8, 0.5, pos=RandomSampler(1, 0), neg=ranker)
    assert_same(sampler, scene, *(oracles.score_hlr(image, 8, 0.5) for image in images(scene)))


@pytest.mark.parametrize("part", ["pos", "neg"])
@pytest.mark.parametrize("name", ["all", "hard_negative", "matched_random", "ohem_paper", "isr_p", "soft_sampling"])
def test_combined_refuses_what_does_not_rank(part: str, name: str) -> None:
    parts = {"pos": RandomSampler(8, 0.5), "neg": RandomSampler(8, 0.5), part: from_yaml(name)}
    with pytest.raises(ValueError, match=rf"^{part}='\w+' must be a sampler that ranks within a quota: random"):
        CombinedSampler(8, 0.5, **parts)


@settings(max_examples=30, deadline=None)
@given(scene=scenes())
def test_ohem_by_both_losses(scene: Scene) -> None:
    expected = [oracles.ohem(replace(image, cls=image.total), 8, 0.5) for image in images(scene)]
    assert_same(OHEMSampler(8, 0.5, rank_by="total"), scene, *expected)


@settings(max_examples=30, deadline=None)
@given(scene=scenes())
def test_ohem_whose_nms_does_not_look_at_labels(scene: Scene) -> None:
    sampler = OHEMSampler(8, 0.5, nms_thr=0.7, nms_per_label=False, rank_by="total", separate_quotas=False)
    expected = []
    for image in images(scene):
        kept: list[int] = []
        everyone = image.positives + image.negatives
        for i in oracles.first(everyone, image.total, len(everyone)):
            if all(oracles.box_iou(image.boxes[i], image.boxes[j]) <= 0.7 for j in kept):
                kept.append(i)
        expected.append({i: (i in image.positives, 1.0) for i in kept[:8]})
    assert_same(sampler, scene, *expected)
