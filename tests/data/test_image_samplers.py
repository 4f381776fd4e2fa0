"""How often each image is seen, against the papers' rules and simple counts."""

from __future__ import annotations

import pytest
import torch

from harness.data.image_samplers import (
    ClassAwareSampler,
    HardReplaySampler,
    ImageSampler,
    RepeatFactorSampler,
    UniformImageSampler,
)
from harness.data.image_samplers.drawing import epoch_order, turns
from harness.data.image_samplers.presence import ClassPresence, class_presence
from harness.data.loading import TrainOrder
from harness.data.splits import Splits

IMAGES = [{0}, {0, 1}, {0}, {0, 2}, set(), {0, 1}, {0}, {0}]
PAIRS = torch.tensor([(i, k) for i, classes in enumerate(IMAGES) for k in sorted(classes)]).T
PRESENCE = ClassPresence(PAIRS[0], PAIRS[1], len(IMAGES), 3)
ALL = [UniformImageSampler(), RepeatFactorSampler(0.5), ClassAwareSampler(), HardReplaySampler()]


def test_repeat_factors() -> None:
    share = {0: 7 / 8, 1: 2 / 8, 2: 1 / 8}
    factor = {k: max(1.0, (0.5 / f) ** 0.5) for k, f in share.items()}
    oracle = [max((factor[k] for k in classes), default=1.0) for classes in IMAGES]
    torch.testing.assert_close(RepeatFactorSampler(0.5).weights(PRESENCE), torch.tensor(oracle).double())


def test_class_aware_shows_every_class_equally_often() -> None:
    weights = ClassAwareSampler().weights(PRESENCE)
    assert weights[4] == 0
    # A class, then one of its images: every class is chosen with probability 1/3.
    oracle = [sum(1 / 3 / sum(k in other for other in IMAGES) for k in classes) for classes in IMAGES]
    torch.testing.assert_close(weights / weights.sum(), torch.tensor(oracle).double())
    with pytest.raises(ValueError, match="no training image has an object"):
        ClassAwareSampler().weights(ClassPresence(PAIRS[0][:0], PAIRS[1][:0], 3, 2))


def test_hard_replay_prefers_images_with_a_high_loss() -> None:
    losses = torch.tensor([0.5, 3.0, torch.inf, 1.0, 0.1, 2.0, 0.2, 0.3])
    weights = HardReplaySampler(pressure=8).weights(PRESENCE, losses)
    assert weights.argsort(descending=True).tolist() == losses.argsort(descending=True).tolist()
    assert weights.max() / weights.min() == pytest.approx(8)
    assert (HardReplaySampler().weights(PRESENCE, torch.full((8,), torch.inf)) == 1).all()


@pytest.mark.parametrize("sampler", ALL, ids=lambda sampler: type(sampler).__name__)
def test_an_epoch_holds_each_image_as_often_as_its_weight_says(sampler: ImageSampler) -> None:
    weights = sampler.weights(PRESENCE, torch.arange(8.0))
    counts = torch.zeros(8)
    expected = torch.ones(8).double() if weights is None else 8 * weights / weights.sum()
    for epoch in range(400):
        order = epoch_order(8, 5, epoch, weights)
        assert torch.equal(order, epoch_order(8, 5, epoch, weights))
        count = torch.bincount(order, minlength=8)
        assert len(order) == 8
        assert (count >= expected.floor()).all()
        assert (count <= expected.ceil()).all()
        counts += count
    torch.testing.assert_close(counts.double() / 400, expected, rtol=0, atol=0.08)
    assert not torch.equal(epoch_order(8, 5, 0, weights), epoch_order(8, 6, 0, weights))


def test_turns_count_within_the_epoch() -> None:
    order = torch.tensor([3, 1, 3, 0, 3, 1])
    assert turns(order).tolist() == [0, 0, 1, 0, 2, 1]


def test_batches_follow_an_order_and_end_where_asked() -> None:
    order = TrainOrder(4, 2, 0, 1, 10, until=4, order=lambda epoch: torch.tensor([epoch, 3, epoch, 3]))
    batches = list(order)
    assert len(order) == len(batches) == 3
    assert [[place.image for place in batch] for batch in batches] == [[0, 3], [1, 3], [1, 3]]
    assert [[place.turn for place in batch] for batch in batches] == [[1, 1], [0, 0], [1, 1]]


def test_presence_of_a_data_set(scenes30: Splits) -> None:
    presence = class_presence(scenes30.train)
    pairs = set(zip(presence.image.tolist(), presence.label.tolist(), strict=True))
    assert pairs == {(i, int(k) - 1) for i in range(len(scenes30.train)) for k in scenes30.train[i][1]["labels"]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepeatFactorSampler(0), "^repeat_thresh=0"),
        (lambda: HardReplaySampler(0.5), "^pressure=0.5"),
        (lambda: epoch_order(3, 0, 0, torch.tensor([1.0, -1.0, 2.0])), "weights of the images"),
        (lambda: epoch_order(3, 0, 0, torch.zeros(3)), "weights of the images"),
    ],
)
def test_a_bad_value_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
