"""The losses that know the class counts, against their papers' rules; and the random numbers of those that draw."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.core.structures import ClassCounts
from harness.losses.classification import ACSLLoss, ClassBalancedFocalLoss, EQLv1Loss, FederatedLoss
from harness.losses.counted_noise import CountedNoise

IMAGES = torch.tensor([100, 2, 30, 1, 8])
COUNTS = ClassCounts(IMAGES, 3 * IMAGES, num_images=1000)
LOGITS = 2 * torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.randint(0, 8, (40,), generator=torch.Generator().manual_seed(1)).clamp(max=5)  # 5: no object


def entropy(slot: int, column: int) -> float:
    p = 1 / (1 + math.exp(-LOGITS[slot, column]))
    return -math.log(p if TARGET[slot] == column else 1 - p)


def table(value) -> Tensor:
    rows = [[value(s, c) for c in range(LOGITS.shape[1])] for s in range(len(LOGITS))]
    return torch.tensor(rows, dtype=torch.float64)


def test_eqlv1() -> None:
    loss = EQLv1Loss(rare_share=0.008)  # of 1000 images: class 4, in 8 of them, is not below
    loss.set_class_counts(COUNTS)

    def value(slot: int, column: int) -> float:
        suppressed = TARGET[slot] < 5 and TARGET[slot] != column and IMAGES[column] / 1000 < 0.008
        return 0.0 if suppressed else entropy(slot, column)

    torch.testing.assert_close(loss.elementwise(LOGITS, TARGET), table(value))


def test_class_balanced_focal() -> None:
    loss = ClassBalancedFocalLoss(beta=0.99, gamma=1.5)
    counts = ClassCounts(torch.tensor([9, 9, 9, 0, 9]), torch.tensor([300, 6, 90, 0, 24]), 1000)
    loss.set_class_counts(counts)
    raw = [0.01 / (1 - 0.99**n) for n in (300, 6, 90, 24)]
    mean = sum(raw) / 4
    weights = [raw[0] / mean, raw[1] / mean, raw[2] / mean, 1.0, raw[3] / mean, 1.0]

    def value(slot: int, column: int) -> float:
        return weights[int(TARGET[slot])] * (1 - math.exp(-entropy(slot, column))) ** 1.5 * entropy(slot, column)

    torch.testing.assert_close(loss.elementwise(LOGITS, TARGET), table(value))


def test_federated_counts_what_occurs_and_draws_the_rest() -> None:
    loss = FederatedLoss(num_classes=3)
    loss.prepare(5)
    loss.set_class_counts(COUNTS)
    logits, target = LOGITS[:6], torch.tensor([3, 5, 3, 5, 1, 2])
    weight = torch.tensor([1.0, 1, 1, 1, 1, 0])  # the slot of class 2 does not exist
    drawn = torch.zeros(5)
    for _ in range(400):
        value, counted = loss.elementwise(logits, target, weight=weight), loss.counted(target, 5, weight)
        assert counted.sum() == 3
        assert counted[[1, 3]].all()
        drawn += loss.counted(target, 5, weight)
        assert ((value != 0).all(0) | (value == 0).all(0)).all()
    # The third one by the root of its images: 10, 5.5 and 2.8.
    expected = torch.tensor([10.0, 30**0.5, 8**0.5])
    torch.testing.assert_close(drawn[[0, 2, 4]] / 400, expected / expected.sum(), rtol=0, atol=0.08)

    everything = FederatedLoss(num_classes=99)
    everything.prepare(5)
    everything.set_class_counts(COUNTS)
    torch.testing.assert_close(everything.elementwise(LOGITS, TARGET), table(entropy))


def test_acsl() -> None:
    loss = ACSLLoss(0.7, rare_images=2, common_images=50, background_shares=(0.1, 0.5, 1.0), background_column=False)
    loss.prepare(5)
    loss.set_class_counts(COUNTS)
    drawn = loss.drawn(LOGITS, TARGET, None)
    none = TARGET == 5
    assert [int(row.sum()) for row in drawn] == [int(0.1 * none.sum()), int(0.5 * none.sum()), int(none.sum())]
    assert not drawn[:, ~none].any()
    group = [2, 0, 1, 0, 1]

    def value(slot: int, column: int) -> float:
        if none[slot]:
            counts = bool(drawn[group[column], slot])
        else:
            counts = TARGET[slot] == column or 1 / (1 + math.exp(-LOGITS[slot, column])) >= 0.7
        return entropy(slot, column) if counts else 0.0

    torch.testing.assert_close(loss.elementwise(LOGITS, TARGET), table(value))
    assert not torch.equal(loss.drawn(LOGITS, TARGET, None), drawn)  # the next step draws others
    everywhere = loss.eval().elementwise(LOGITS, TARGET)
    assert ((everywhere != 0).all(-1) == none).sum() >= none.sum()


def test_noise_depends_on_seed_draw_and_purpose_alone() -> None:
    noise = CountedNoise()
    noise.seed(-7)
    first = noise(20_000)
    assert torch.equal(first, noise(20_000))
    assert torch.equal(first[:10], noise(10))
    assert ((first > 0) & (first < 1)).all()
    counts = torch.histc(first, 20, 0, 1)
    assert ((counts - 1000).abs() < 150).all()  # five standard deviations
    others = [noise(20_000, purpose=1)]
    noise.advance()
    others.append(noise(20_000))
    noise.seed(8)
    others.append(noise(20_000))
    for other in others:
        assert abs(torch.corrcoef(torch.stack((first, other)))[0, 1]) < 0.04

    again = CountedNoise()
    again.load_state_dict(noise.state_dict())
    assert torch.equal(again(5), noise(5))


@pytest.mark.parametrize("make", [EQLv1Loss, FederatedLoss, ClassBalancedFocalLoss, ACSLLoss])
def test_counts_are_asked_for(make) -> None:
    loss = make()
    loss.prepare(5)
    with pytest.raises(ValueError, match="needs the class counts of the training set"):
        loss(LOGITS, TARGET)
    loss.set_class_counts(COUNTS)
    with pytest.raises(ValueError, match="class counts of 5 columns, the logits 4"):
        loss(LOGITS[:, :4], TARGET)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EQLv1Loss(2), "^rare_share=2"),
        (lambda: ClassBalancedFocalLoss(beta=1), "^beta=1 must be at least 0 and below 1"),
        (lambda: FederatedLoss(0), "^num_classes=0"),
        (lambda: ACSLLoss(common_images=5), "^common_images=5 must be a whole number of at least 10"),
        (lambda: ACSLLoss(background_shares=[1, 2]), "^background_shares"),
    ],
)
def test_a_bad_value_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
