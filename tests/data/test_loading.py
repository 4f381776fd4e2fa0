from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.data.augment.flip import Flip
from harness.data.augment.mosaic_mixup import MosaicMixup
from harness.data.loading import Batch, TrainOrder, to_device, train_loader, val_loader
from harness.data.splits import Splits
from harness.data.streams import cpu_stream, derive_seed


def batches(splits: Splits, **options: int) -> list[Batch]:
    settings = {"batch_size": 4, "seed": 3, "iterations": 12, **options}
    return list(train_loader(splits, **settings))  # type: ignore[arg-type]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for (images, targets), (other_images, other_targets) in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, other_images, strict=True))
        for a, b in zip(targets, other_targets, strict=True):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[key], b[key]) for key in a)


def test_every_image_once_an_epoch_and_full_batches() -> None:
    order = TrainOrder(num_images=10, batch_size=4, seed=0, start=0, stop=10)
    stream = [place for batch in order for place in batch]
    assert [len(batch) for batch in order] == [4] * 10
    for epoch in range(4):
        assert sorted(place.image for place in stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
        assert {place.epoch for place in stream[10 * epoch : 10 * epoch + 10]} == {epoch}
    assert [p.image for p in stream[:10]] != [p.image for p in stream[10:20]]
    assert stream[0].epochs_left == 4.0
    assert stream[-1].epochs_left == pytest.approx(0.1)


def test_a_batch_depends_on_seed_and_step_only() -> None:
    full = list(TrainOrder(7, 3, 5, 0, 20))
    for start in (1, 6, 13, 19):
        assert list(TrainOrder(7, 3, 5, start, 20)) == full[start:]
    order = TrainOrder(7, 3, 5, 0, 20)
    assert [order.batch(step) for step in (19, 2, 11, 2)] == [full[step] for step in (19, 2, 11, 2)]
    assert list(TrainOrder(7, 3, 6, 0, 20)) != full
    assert len(TrainOrder(7, 3, 5, 13, 20)) == 7


def test_a_batch_may_be_larger_than_the_data() -> None:
    batch = TrainOrder(3, 8, 0, 0, 1).batch(0)
    assert Counter(place.image for place in batch).most_common()[-1][1] >= 2
    assert [place.epoch for place in batch] == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores: slow, and still exact
@pytest.mark.parametrize("augment", [None, Flip(), MosaicMixup(off_last_epochs=0.5)], ids=["none", "flip", "mosaic"])
def test_any_number_of_workers_gives_the_same_batches(scenes30: Splits, augment: object) -> None:
    splits = replace(scenes30, augment=augment)
    expected = batches(splits)
    for num_workers in (1, 3):
        assert_equal(batches(splits, num_workers=num_workers), expected)


def test_a_resume_at_any_step_is_exact(scenes30: Splits) -> None:
    splits = replace(scenes30, augment=MosaicMixup(off_last_epochs=0.5))
    expected = batches(splits)
    for start in (1, 5, 11):
        assert_equal(batches(splits, start=start), expected[start:])
    assert batches(splits, start=12) == []


def test_the_global_generator_is_left_alone_and_does_not_matter(scenes30: Splits) -> None:
    splits = replace(scenes30, augment=MosaicMixup())
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = batches(splits)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_equal(first, batches(splits))
    other = batches(splits, seed=4)
    assert any(not torch.equal(a, b) for a, b in zip(first[0][0], other[0][0], strict=True))


def test_validation_is_in_order_and_not_augmented(scenes30: Splits) -> None:
    splits = replace(scenes30, augment=Flip(p=1.0))
    seen = [
        (image, target) for batch in val_loader(splits.val, batch_size=3) for image, target in zip(*batch, strict=True)
    ]
    assert len(seen) == len(splits.val)
    for index, (image, target) in enumerate(seen):
        assert torch.equal(image, splits.val[index][0])
        assert int(target["image_id"]) == index


def test_to_device_gives_numbers_in_0_to_1(scenes30: Splits) -> None:
    batch = next(iter(val_loader(scenes30.val, batch_size=2)))
    images, targets = to_device(batch, "cpu")
    assert images[0].dtype == torch.float32
    torch.testing.assert_close(images[0] * 255, batch[0][0].float())
    assert batch[0][0].dtype == torch.uint8
    assert torch.equal(targets[1]["boxes"], batch[1][1]["boxes"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "^batch_size=0 must be a whole number of at least 1"),
        ({"iterations": 0}, "^stop=0 must be"),
        ({"start": 13}, "^start=13 must be between 0 and 12"),
        ({"num_workers": -1}, "^num_workers=-1 must be a whole number of at least 0"),
    ],
)
def test_bad_settings(scenes30: Splits, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(scenes30, **options)
    with pytest.raises(ValueError, match=r"^batch_size=0"):
        val_loader(scenes30.val, batch_size=0)


def test_streams() -> None:
    assert derive_seed(0, "order", 1) == derive_seed(0, "order", 1)
    seeds = {derive_seed(s, purpose, a, b) for s in range(5) for purpose in "xy" for a in range(12) for b in range(12)}
    assert len(seeds) == 5 * 2 * 144
    assert all(0 <= seed < 2**63 for seed in seeds)

    def draw(seed: int) -> Tensor:
        with cpu_stream(seed):
            return torch.rand(3)

    before = torch.get_rng_state()
    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError), cpu_stream(1):
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)
