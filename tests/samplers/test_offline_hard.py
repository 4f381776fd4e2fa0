"""Offline hard-negative mining where there is something mined: stored false positives in the ground truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.core.structures import Assignment, Candidates, GroundTruth
from harness.samplers import offline_hard
from harness.samplers.combined import CombinedSampler
from harness.samplers.offline_hard import OfflineHardSampler, near
from harness.samplers.random import RandomSampler
from tests.samplers.oracles import Image, Weights, box_iou, first, negatives_left, ones
from tests.samplers.scenes import Scene, make_scene, scenes, taken


def mined(scene: Scene, seed: int, count: int = 4) -> Scene:
    """The scene with ``count`` stored boxes among its objects, each near some candidate, and some of them padding."""
    g = torch.Generator().manual_seed(seed)
    truth, boxes = scene.truth, scene.candidates.boxes
    batch, objects = truth.labels.shape
    stored = torch.rand(batch, count, 4, generator=g) * 20
    if boxes.shape[1]:
        near_one = torch.randint(0, boxes.shape[1], (batch, count), generator=g)
        stored = boxes.gather(1, near_one.unsqueeze(-1).expand(-1, -1, 4)) + torch.rand(stored.shape, generator=g) * 8
    order = torch.randperm(objects + count, generator=g)
    real = torch.cat((truth.valid, torch.zeros(batch, count, dtype=torch.bool)), 1)
    hard = torch.cat((torch.zeros_like(truth.valid), torch.rand(batch, count, generator=g) < 0.8), 1)
    merged = GroundTruth(
        boxes=torch.cat((truth.boxes, stored), 1)[:, order],
        labels=torch.cat((truth.labels, torch.zeros(batch, count, dtype=torch.int64)), 1)[:, order],
        valid=real[:, order],
        crowd=torch.zeros_like(real),
        hard_negative=hard[:, order],
    )
    place = order.argsort()
    gt_index = scene.assignment.gt_index
    moved = torch.where(gt_index >= 0, place[gt_index.clamp(min=0)], gt_index)
    return replace(scene, truth=merged, assignment=replace(scene.assignment, gt_index=moved))


def stored_boxes(scene: Scene, index: int) -> list[list[float]]:
    assert scene.truth.hard_negative is not None
    return scene.truth.boxes[index][scene.truth.hard_negative[index]].tolist()


def naive(image: Image, stored: list[list[float]], num: int, pos_fraction: float, share: float) -> Weights:
    """Draw the places of the hard ones among those near a stored box, then all others among who is left."""
    positives = first(image.positives, image.noise, int(num * pos_fraction))
    left = negatives_left(num, len(positives), -1)
    hard = [i for i in image.negatives if any(box_iou(image.boxes[i], box) >= 0.5 for box in stored)]
    chosen = first(hard, image.noise, int(left * share))
    lot = [image.other_noise[i] if i in hard else image.noise[i] for i in range(len(image.noise))]
    return ones(positives, chosen + first([i for i in image.negatives if i not in chosen], lot, left - len(chosen)))


@settings(max_examples=40, deadline=None)
@given(
    scene=scenes(max_size=60),
    seed=st.integers(0, 1000),
    num=st.sampled_from((1, 4, 9, 64)),
    share=st.sampled_from((0.0, 0.3, 0.5, 1.0)),
)
def test_equals_its_oracle(scene: Scene, seed: int, num: int, share: float) -> None:
    scene = mined(scene, seed)
    ours = taken(scene.sampled(OfflineHardSampler(num, 0.25, hard_fraction=share)))
    for index, found in enumerate(ours):
        assert found == naive(Image.of(scene, index), stored_boxes(scene, index), num, 0.25, share)


def naive_symmetric(image: Image, hard: list[bool], num: int, pos_fraction: float, share: float) -> list[int]:
    """Draw the places of hard objects' candidates, then all others among who is left."""
    wanted = int(num * pos_fraction)
    of_hard = [i for i in image.positives if hard[image.gt_index[i]]]
    places = int(wanted * share)
    chosen = first(of_hard, image.noise, places)
    drawn_before = of_hard if places else []  # a draw of no place rejects nobody
    lot = [image.other_noise[i] if i in drawn_before else image.noise[i] for i in range(len(image.noise))]
    return chosen + first([i for i in image.positives if i not in chosen], lot, wanted - len(chosen))


@settings(max_examples=40, deadline=None)
@given(
    scene=scenes(max_size=60),
    seed=st.integers(0, 1000),
    num=st.sampled_from((1, 4, 9, 64)),
    share=st.sampled_from((0.3, 0.5, 1.0)),
)
def test_the_symmetric_form_equals_its_oracle(scene: Scene, seed: int, num: int, share: float) -> None:
    hard = torch.rand(scene.truth.labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    scene = replace(scene, truth=replace(scene.truth, hard_positive=hard))
    ours = taken(scene.sampled(OfflineHardSampler(num, 0.5, hard_positive_fraction=share)))
    for index, found in enumerate(ours):
        expected = naive_symmetric(Image.of(scene, index), hard[index].tolist(), num, 0.5, share)
        assert {i for i, (positive, _) in found.items() if positive} == set(expected)


def test_hard_ones_are_taken_far_more_often_than_at_random() -> None:
    scene = mined(make_scene(0, size=400, batch=4), 0, count=2)
    hard = near(scene.truth, scene.candidates, 0.5) & scene.assignment.negative & scene.candidates.valid
    assert 8 < hard.sum() < 0.2 * scene.assignment.negative.sum()

    def share_of_hard(sampler: OfflineHardSampler | RandomSampler) -> float:
        sample = scene.sampled(sampler)
        return float((sample.take(hard) & sample.negative).sum() / hard.sum())

    assert share_of_hard(OfflineHardSampler(32, 0.25, hard_fraction=1.0)) == 1.0
    assert share_of_hard(RandomSampler(32, 0.25)) < 0.8


@pytest.mark.parametrize("stored", [None, "none"])
def test_without_stored_boxes_it_is_the_random_sampler(stored: str | None) -> None:
    scene = make_scene(3, size=150)
    if stored is not None:
        scene = replace(scene, truth=replace(scene.truth, hard_negative=torch.zeros_like(scene.truth.valid)))
    ours, theirs = scene.sampled(OfflineHardSampler(32, 0.25)), scene.sampled(RandomSampler(32, 0.25))
    assert torch.equal(ours.index, theirs.index)
    assert torch.equal(ours.weight, theirs.weight)


def points(stride: float, side: int) -> Candidates:
    """A grid of points over an image of ``side`` px, one image."""
    ticks = torch.arange(stride / 2, side, stride)
    centers = torch.cartesian_prod(ticks, ticks).flip(-1)
    boxes = torch.cat((centers - stride / 2, centers + stride / 2), -1).unsqueeze(0)
    return Candidates(boxes, torch.ones(boxes.shape[:2], dtype=torch.bool), stride=torch.full((len(centers),), stride))


def background(*boxes: list[float]) -> GroundTruth:
    """An image without an object and with these stored false positives."""
    stored = torch.tensor([boxes])
    hard = torch.ones(stored.shape[:2], dtype=torch.bool)
    return GroundTruth(stored, torch.zeros_like(hard, dtype=torch.int64), ~hard, ~hard, hard)


def test_a_point_counts_as_a_box_of_the_stored_size() -> None:
    """A square of one stride would overlap no larger box enough: the points in the middle are meant."""
    candidates, box = points(8, 96), [20.0, 30.0, 60.0, 70.0]
    found = near(background(box), candidates, 0.5)[0]
    for center, is_near in zip(candidates.centers[0].tolist(), found.tolist(), strict=True):
        moved = [center[0] - 20, center[1] - 20, center[0] + 20, center[1] + 20]
        assert is_near == (box_iou(moved, box) >= 0.5)
    assert 4 <= found.sum() <= 16
    anchors = replace(candidates, stride=None)
    assert not near(background(box), anchors, 0.5).any()


def test_many_pairs_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = mined(make_scene(5, size=80), 5, count=9)
    whole = near(scene.truth, scene.candidates, 0.5)
    assert whole.any()
    monkeypatch.setattr(offline_hard, "MEMORY_BOUND", 4 * 300)
    assert torch.equal(near(scene.truth, scene.candidates, 0.5), whole)


def test_boxes_that_are_not_finite_are_near_nothing() -> None:
    scene = mined(make_scene(6, size=80), 6)
    boxes = scene.candidates.boxes.clone()
    boxes[:, ::2] = torch.nan
    boxes[:, 1::4] = torch.inf
    found = near(scene.truth, replace(scene.candidates, boxes=boxes), 0.5)
    assert not found[:, ::2].any()
    assert not found[:, 1::4].any()


def test_compiles_with_stored_boxes() -> None:
    torch.compiler.reset()
    sampler = OfflineHardSampler(16, 0.25)
    compiled = torch.compile(sampler.__call__, fullgraph=True, backend="eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size, count in ((40, 3), (77, 6)):
            scene = mined(make_scene(8, size=size, objects=size // 10), 8, count=count)
            ours, eager = scene.sampled(compiled), scene.sampled(sampler)
            assert torch.equal(ours.index, eager.index)
            assert torch.equal(ours.weight, eager.weight)


def test_one_image_equals_itself_in_a_batch() -> None:
    scene = mined(make_scene(9, batch=3, size=90), 9)
    sampler = OfflineHardSampler(16, 0.25)
    together, alone = scene.sampled(sampler), scene.image(1).sampled(sampler)
    assert torch.equal(together.index[1], alone.index)


def test_it_is_no_part_of_a_combination() -> None:
    """There it would never be asked to mine, and would silently be the random sampler."""
    with pytest.raises(ValueError, match=r"^neg='OfflineHardSampler' must be a sampler that ranks within a quota"):
        CombinedSampler(8, 0.5, pos=RandomSampler(8, 0.5), neg=OfflineHardSampler(8, 0.5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("hard_fraction", 1.5, "between 0 and 1"),
        ("hard_iou_thr", 0, "above 0 and at most 1"),
        ("every_epochs", 0, "above 0"),
        ("every_epochs", float("inf"), "finite and above 0"),
        ("score_thr", float("nan"), "between 0 and 1"),
        ("max_iou", 0, "above 0 and at most 1"),
        ("max_per_image", 0, "a whole number of at least 1"),
    ],
)
def test_bad_values(key: str, value: float, valid: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key}={value} must be {valid}"):
        OfflineHardSampler(8, 0.25, **{key: value})  # type: ignore[arg-type]


def test_who_is_assigned_is_not_asked_again() -> None:
    """A positive on a stored box stays one, and an ignored candidate there is not taken."""
    boxes: Tensor = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]]])
    candidates = Candidates(boxes, torch.ones(1, 4, dtype=torch.bool))
    assignment = Assignment(torch.tensor([[0, -2, -1, -1]]), torch.zeros(1, 4))
    noise = torch.tensor([[0.1, 0.2, 0.3, 0.9]])
    sample = OfflineHardSampler(2, 0.5, hard_fraction=1.0)(
        background([0, 0, 10, 10]), candidates, assignment, noise=noise
    )
    assert taken(sample) == [{0: (True, 1.0), 2: (False, 1.0)}]
