"""One contract for every choice in conf/augment, then what is particular to each."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from harness.data.augment.boxes import as_boxes, tidy
from harness.data.augment.flip import Flip
from harness.data.augment.mosaic_mixup import MosaicMixup, blend, stitch
from harness.data.augment.multi_scale import GRAY, MultiScale, place
from harness.data.augment.photometric import Photometric
from harness.data.augment.protocol import Augment, Surroundings
from harness.data.dataset import DatasetItem, Target
from harness.data.loading import TrainOrder
from harness.data.splits import Splits
from harness.data.streams import cpu_stream
from tests.data.conftest import REPOSITORY

CHOICES = sorted((REPOSITORY / "conf" / "augment").glob("*.yaml"))


def target_of(boxes: list[list[float]], image_id: int = 0, crowd: int = 0) -> Target:
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {
        "boxes": tensor,
        "labels": torch.arange(1, len(tensor) + 1),
        "image_id": torch.tensor(image_id),
        "iscrowd": torch.full((len(tensor),), crowd),
        "area": (tensor[:, 2:] - tensor[:, :2]).prod(dim=1),
    }


def framed(height: int, width: int, box: list[int]) -> DatasetItem:
    """A black image with one white rectangle, and its box: what is white afterwards says where the box must be."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, box[1] : box[3], box[0] : box[2]] = 255
    return image, target_of([[float(v) for v in box]])


def alone(sample: DatasetItem, epochs_left: float = 100.0) -> Surroundings:
    return Surroundings(lambda index: copy.deepcopy(sample), 1, epochs_left)


def run(augment: Augment, sample: DatasetItem, around: Surroundings, seed: int) -> DatasetItem:
    with cpu_stream(seed):
        return augment(sample, around)


def white(image: Tensor) -> list[int]:
    ys, xs = torch.nonzero(image[0] > 127, as_tuple=True)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


@pytest.fixture(params=CHOICES, ids=[path.stem for path in CHOICES])
def choice(request: pytest.FixtureRequest) -> Any:
    path: Path = request.param
    return instantiate(OmegaConf.load(path))


def test_all_choices_are_there() -> None:
    assert [path.stem for path in CHOICES] == [
        "flip",
        "mosaic_mixup",
        "mosaic_mixup_yolox",
        "multi_scale",
        "none",
        "photometric",
    ]


def test_contract(choice: Augment, scenes30: Splits) -> None:
    train = scenes30.train
    around = Surroundings(train.__getitem__, len(train), 10.0)
    for index in range(20):
        image, target = run(choice, train[index], around, seed=index)
        assert type(image) is Tensor
        assert image.dtype == torch.uint8
        assert image.shape == (3, 96, 96)
        assert target.keys() == train.target(index).keys()
        assert int(target["image_id"]) == index
        rows = {key: len(value) for key, value in target.items() if key != "image_id"}
        assert len(set(rows.values())) == 1
        for key, value in train.target(index).items():
            assert type(target[key]) is Tensor
            assert target[key].dtype == value.dtype
        boxes = target["boxes"]
        assert ((boxes >= 0) & (boxes <= 96)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        torch.testing.assert_close(target["area"], (boxes[:, 2:] - boxes[:, :2]).prod(dim=1))


def test_same_seed_same_sample(choice: Augment, scenes30: Splits) -> None:
    train = scenes30.train
    around = Surroundings(train.__getitem__, len(train), 10.0)
    first, second = (run(choice, train[4], around, seed=9) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1][key], second[1][key]) for key in first[1])


def test_inputs_are_left_alone(choice: Augment) -> None:
    sample = framed(40, 60, [10, 5, 30, 25])
    kept = copy.deepcopy(sample)
    for seed in range(10):
        run(choice, sample, Surroundings(lambda index: sample, 1, 10.0), seed)
    assert torch.equal(sample[0], kept[0])
    assert all(torch.equal(sample[1][key], kept[1][key]) for key in kept[1])


def test_images_without_objects(choice: Augment) -> None:
    sample = torch.zeros(3, 40, 60, dtype=torch.uint8), target_of([])
    for seed in range(6):
        image, target = run(choice, sample, alone(sample), seed)
        assert image.shape == (3, 40, 60)
        assert target["boxes"].shape == (0, 4)
        assert target["labels"].dtype == torch.int64


@pytest.mark.parametrize("augment", [Flip(), MultiScale(scale=(0.4, 2.0))], ids=["flip", "multi_scale"])
def test_the_box_goes_where_the_object_goes(augment: Augment) -> None:
    seen = set()
    for seed in range(60):
        sample = framed(50, 80, [20, 10, 44, 26])
        image, target = run(augment, sample, alone(sample), seed)
        if len(target["boxes"]):
            found = white(image)
            # Resizing blurs the rectangle's edge over two source pixels.
            assert target["boxes"][0].tolist() == pytest.approx(found, abs=1.01)
            seen.add(tuple(found))
        else:
            assert (image > 127).float().mean() < 0.02
    assert len(seen) == 2 if isinstance(augment, Flip) else len(seen) > 30


def test_the_boxes_go_where_the_objects_go_in_a_mosaic() -> None:
    sources = [framed(40, 60, [12, 8, 36, 30]), framed(80, 120, [30, 20, 90, 70]), framed(30, 30, [5, 5, 25, 20])]
    augment = MosaicMixup(mixup=0.0, scale=(0.5, 1.0), flip=0.0)
    augment.finish = lambda sample, around: sample  # type: ignore[assignment]  # white is to stay white
    total = 0
    for seed in range(60):
        around = Surroundings(lambda index: copy.deepcopy(sources[index]), 3, 10.0)
        image, target = run(augment, copy.deepcopy(sources[0]), around, seed)
        assert image.shape == (3, 40, 60)
        covered = torch.zeros(40, 60, dtype=torch.bool)
        for x1, y1, x2, y2 in target["boxes"].tolist():
            inner = image[0, round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1]
            assert not inner.numel() or (inner > 200).float().mean() > 0.85
            covered[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = True
            total += 1
        # Rests that were too small for a box may be uncovered.
        assert ((image[0] > 200) & ~covered).float().mean() < 0.03
    assert total > 100


def test_mosaic_holds_four_images_and_mixup_blends_in_another(scenes30: Splits) -> None:
    train = scenes30.train
    four = [train[k] for k in range(4)]
    with cpu_stream(0):
        image, target = stitch(four)
    assert image.shape == (3, 192, 192)
    assert len(target["boxes"]) <= sum(len(t["boxes"]) for _, t in four)
    assert int(target["image_id"]) == 0
    mixed, both = blend(train[0], train[1])
    expected = (train[0][0].float() + train[1][0].float()).div(2).floor()
    assert torch.equal(mixed.float(), expected)
    assert both["labels"].tolist() == train[0][1]["labels"].tolist() + train[1][1]["labels"].tolist()
    assert int(both["image_id"]) == 0


def test_mosaic_is_off_at_the_end(scenes30: Splits) -> None:
    train = scenes30.train
    fetched: list[int] = []

    def fetch(index: int) -> DatasetItem:
        fetched.append(index)
        return train[index]

    augment = MosaicMixup(mosaic=1.0, mixup=1.0, off_last_epochs=2.0)
    for epochs_left, used in ((2.0, False), (0.1, False), (2.01, True), (float("inf"), True)):
        fetched.clear()
        _, target = run(augment, train[0], Surroundings(fetch, 30, epochs_left), 0)
        assert bool(fetched) == used
        if not used:
            assert len(target["boxes"]) == len(train[0][1]["boxes"])


def test_mosaic_is_off_for_a_share_of_the_training(scenes30: Splits) -> None:
    """YOLOX's 15 of 300 epochs, whatever the training's length: where the L1 loss of recipe=yolox begins."""
    augment = instantiate(OmegaConf.load(REPOSITORY / "conf" / "augment" / "mosaic_mixup_yolox.yaml"))
    start = OmegaConf.load(REPOSITORY / "conf" / "recipe" / "yolox.yaml").loss.terms.l1.start
    assert start == 1 - augment.off_last_share
    train = scenes30.train
    order = TrainOrder(num_images=30, batch_size=3, seed=0, start=0, stop=200)  # 20 epochs
    for step, used in ((0, True), (189, True), (190, False), (199, False)):
        fetched: list[int] = []

        def fetch(index: int, fetched: list[int] = fetched) -> DatasetItem:
            fetched.append(index)
            return train[index]

        here = order.batch(step)[0]
        around = Surroundings(fetch, 30, here.epochs_left, share_left=here.share_left)
        run(augment, train[0], around, 0)
        assert bool(fetched) == used, step
        assert (step / 200 < start) == used


def test_flip_is_an_exact_mirror(scenes30: Splits) -> None:
    image, target = scenes30.train[2]
    flipped, moved = run(Flip(p=1.0), scenes30.train[2], alone(scenes30.train[2]), 0)
    assert torch.equal(flipped, image.flip(-1))
    x1, y1, x2, y2 = target["boxes"].unbind(dim=1)
    torch.testing.assert_close(moved["boxes"], torch.stack([96 - x2, y1, 96 - x1, y2], dim=1))
    same, still = run(Flip(p=0.0), scenes30.train[2], alone(scenes30.train[2]), 0)
    assert torch.equal(same, image)
    assert torch.equal(still["boxes"], target["boxes"])


def test_photometric_changes_colours_only(scenes30: Splits) -> None:
    sample = scenes30.train[1]
    image, target = run(Photometric(p=1.0, flip=0.0), sample, alone(sample), 0)
    assert not torch.equal(image, scenes30.train[1][0])
    assert torch.equal(target["boxes"], sample[1]["boxes"])


def test_what_a_cut_leaves() -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    boxes = torch.tensor(
        [
            [10.0, 10, 20, 20],  # untouched
            [-5.0, 10, 5, 20],  # half
            [-19.0, 10, 1, 20],  # a line
            [-95.0, 10, 5, 20],  # a twentieth
            [70.0, 10, 80, 20],  # nothing
            [30.0, 10, 30.5, 10.5],  # small, but whole
            [5.0, 5, 5, 9],  # empty from the start
        ]
    )
    target = target_of(boxes.tolist())
    _, left = tidy(image, as_boxes(boxes, image), target)
    assert left["labels"].tolist() == [1, 2, 6]
    assert left["boxes"][1].tolist() == [0, 10, 5, 20]
    assert left["area"].tolist() == [100, 50, 0.25]
    _, regions = tidy(image, as_boxes(boxes, image), target_of(boxes.tolist(), crowd=1))
    assert regions["labels"].tolist() == [1, 2, 3, 4, 6]


def test_place_crops_and_pads() -> None:
    image = torch.arange(1, 13, dtype=torch.uint8).reshape(1, 3, 4).expand(3, 3, 4)
    padded = place(image, (5, 6), 1, 2)
    assert torch.equal(padded[:, 1:4, 2:6], image)
    assert (padded == GRAY).sum() == 3 * (30 - 12)
    assert torch.equal(place(image, (2, 2), -1, -2), image[:, 1:3, 2:4])
    assert (place(image, (2, 2), 5, 0) == GRAY).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(p=1.5), "^p=1.5 must be between 0 and 1"),
        (
            lambda: MultiScale(scale=(2.0, 1.0)),
            r"^scale=\(2.0, 1.0\) must be \[smallest, largest\] between 0.05 and 10",
        ),
        (lambda: MultiScale(scale=(0.0, 1.0)), r"^scale=\(0.0, 1.0\) must be"),
        (lambda: MultiScale(flip=-1), "^flip=-1 must be"),
        (lambda: Photometric(hue=(-0.7, 0.1)), r"^hue=\(-0.7, 0.1\) must be"),
        (lambda: Photometric(contrast=(0.5,)), r"^contrast=\(0.5,\) must be"),
        (lambda: MosaicMixup(mosaic=2), "^mosaic=2 must be"),
        (lambda: MosaicMixup(off_last_epochs=-1), "^off_last_epochs=-1 must be at least 0"),
        (lambda: MosaicMixup(off_last_share=1.5), "^off_last_share=1.5 must be between 0 and 1"),
    ],
)
def test_bad_values(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (60, 1), (1, 60), (20, 1000)])
def test_tiny_and_narrow_images(choice: Augment, height: int, width: int) -> None:
    def sample() -> DatasetItem:
        return torch.zeros(3, height, width, dtype=torch.uint8), target_of([[0.0, 0.0, width, height]])

    for seed in range(8):
        image, target = run(choice, sample(), Surroundings(lambda index: sample(), 1, 10.0), seed)
        assert image.shape == (3, height, width)
        assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
