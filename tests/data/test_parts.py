"""Masks and keypoints: read, drawn, moved by every augmentation, exported, and refused where they are missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pycocotools.coco import COCO
from torch import Tensor

from harness.data.augment.boxes import apply, mirrored
from harness.data.augment.protocol import Augment, Surroundings
from harness.data.dataset import DatasetItem
from harness.data.drawing import figures
from harness.data.export import to_coco
from harness.data.records import DataError
from harness.data.sources.coco import coco
from harness.data.sources.voc import voc
from harness.data.splits import Splits
from harness.data.streams import cpu_stream
from tests.data.conftest import REPOSITORY, WriteCoco, WriteVoc, voc_object

PARTS = ("masks", "keypoints")
AUGMENTS = sorted((REPOSITORY / "conf" / "augment").glob("*.yaml"))
PERSON = {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"]}


def note(key: int, image: int, **more: Any) -> dict[str, Any]:
    return {"id": key, "image_id": image, "category_id": 1, "bbox": [10, 10, 20, 20], "iscrowd": 0, **more}


POLYGON = [[10, 10, 30, 10, 30, 30, 10, 30]]
POINTS = [20, 12, 2, 25, 15, 1, 0, 0, 0]


@pytest.fixture
def people(write_coco: WriteCoco) -> Callable[..., Splits]:
    def load(*notes: dict[str, Any], **options: Any) -> Splits:
        content = {"images": {1: (60, 40), 2: (60, 40)}, "annotations": list(notes), "categories": [PERSON]}
        root = write_coco(train=content, val=content)
        return coco(str(root), train_annotations="train.json", val_annotations="val.json", **options)

    return load


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools under numpy 2
def test_polygons_and_both_kinds_of_rle_become_masks(people: Callable[..., Splits]) -> None:
    square = np.zeros((40, 60), bool)
    square[10:30, 10:30] = True
    runs = np.diff(np.flatnonzero(np.diff(square.T.ravel(), prepend=not square[0, 0], append=2))).tolist()
    notes = [
        note(1, 1, segmentation=POLYGON, keypoints=POINTS),
        note(2, 1, segmentation={"size": [40, 60], "counts": runs}, keypoints=POINTS),
    ]
    splits = people(*notes).yielding(PARTS)
    image, target = splits.train[0]
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].shape == (2, *image.shape[1:])
    assert (target["masks"].numpy() == square).all()
    assert target["keypoints"].tolist() == [[[20, 12, 2], [25, 15, 1], [0, 0, 0]]] * 2
    assert splits.train.keypoint_mirror == (0, 2, 1)
    empty = splits.train[1][1]
    assert (tuple(empty["masks"].shape), tuple(empty["keypoints"].shape)) == ((0, 40, 60), (0, 3, 3))
    exported = to_coco(splits.train)
    assert exported["categories"][0]["keypoints"] == PERSON["keypoints"]
    assert exported["annotations"][0]["num_keypoints"] == 2
    reference = COCO()
    reference.dataset = exported
    reference.createIndex()
    for row in exported["annotations"]:
        np.testing.assert_array_equal(reference.annToMask(row), square)
    assert "masks" not in people(*notes).train[0][1]


def test_what_is_missing_is_refused_before_training(people: Callable[..., Splits], write_voc: WriteVoc) -> None:
    with pytest.raises(DataError, match="the training images have no masks, which the detector needs"):
        people(note(1, 1)).yielding(["masks"])
    with pytest.raises(DataError, match="the training images have no keypoints"):
        people(note(1, 1, segmentation=POLYGON)).yielding(["keypoints"])
    with pytest.raises(DataError, match=r"detector.num_keypoints=17 must be 3, the keypoints of the data"):
        people(note(1, 1, keypoints=POINTS)).yielding(["keypoints"], 17)
    some = (note(1, 1, segmentation=POLYGON), note(2, 2, segmentation=[]), note(3, 2, iscrowd=1))
    with pytest.raises(DataError, match=r"1 of 3 objects of the training images have no mask.*data.on_bad=drop"):
        people(*some).yielding(["masks"])
    dropped = people(*some, on_bad="drop").yielding(["masks"])
    assert [len(dropped.train[index][1]["masks"]) for index in (0, 1)] == [1, 1]
    assert dropped.train[1][1]["iscrowd"].tolist() == [1]
    cat = voc_object("cat", 11, 6, 30, 25)
    root = write_voc({"a": cat, "b": cat}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(DataError, match="have no masks"):
        voc(str(root)).yielding(["masks"])


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3, 4]], "segmentation [[1, 2, 3, 4]]"),
        ([[1, 2, 3, 4, 5, 1e9]], "polygon that reaches far out of the image"),
        ({"size": [40, 61], "counts": [1]}, "RLE of size [40, 61] in an image of [40, 60]"),
        ({"size": [40, 60], "counts": [5, 5]}, "RLE whose runs cover 10 of 2400 pixels"),
        ({"size": [40, 60], "counts": "abc"}, "RLE that does not cover the 2400 pixels"),
        ("text", "segmentation text"),
    ],
)
def test_a_mask_that_cannot_be_read_costs_no_box(
    people: Callable[..., Splits], segmentation: Any, message: str
) -> None:
    splits = people(note(1, 1, segmentation=segmentation))
    assert len(splits.train[0][1]["boxes"]) == 1
    assert any(note.startswith(f"mask left out, box kept: train.json, object 1: {message}") for note in splits.notes)


@pytest.mark.parametrize("points", [[1, 2, 3], [1, 2, 5] * 3, ["a"] * 9, [float("nan")] * 9])
def test_keypoints_that_cannot_be_read_are_named(people: Callable[..., Splits], points: list[Any]) -> None:
    with pytest.raises(DataError, match=r"train.json, object 1: keypoints .*; valid: 3 times x, y and 0, 1 or 2"):
        people(note(1, 1, keypoints=points))


def test_figures_know_their_outlines(scenes30: Splits) -> None:
    splits = scenes30.yielding(PARTS)
    for index in range(10):
        target = splits.train[index][1]
        for box, mask, points in zip(target["boxes"], target["masks"], target["keypoints"], strict=True):
            rows, columns = torch.nonzero(mask, as_tuple=True)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            # The tip of a star is narrower than a pixel.
            assert torch.stack(found).tolist() == pytest.approx(box.tolist(), abs=2.01)
            for point, (axis, side) in zip(points, ((0, 0), (1, 1), (0, 2), (1, 3)), strict=False):
                if point[2] and 0 < box[side] < 96:
                    assert float(point[axis]) == pytest.approx(float(box[side]), abs=1e-3)
    assert splits.train.keypoint_names == figures.KEYPOINTS
    assert splits.train.keypoint_mirror == (2, 1, 0, 3, 4)


def white(mask: Tensor) -> list[int]:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize("path", AUGMENTS, ids=[path.stem for path in AUGMENTS])
def test_masks_and_keypoints_go_where_the_box_goes(path: Path) -> None:
    """A white rectangle whose mask and corners are known: after any augmentation all of them still fit."""
    augment: Augment = instantiate(OmegaConf.load(path))
    mirror = (1, 0, 2)

    def sample() -> DatasetItem:
        image = torch.zeros(3, 50, 80, dtype=torch.uint8)
        image[:, 10:26, 20:44] = 255
        target = {
            "boxes": torch.tensor([[20.0, 10, 44, 26]]),
            "labels": torch.tensor([1]),
            "image_id": torch.tensor(0),
            "iscrowd": torch.tensor([0]),
            "area": torch.tensor([384.0]),
            "masks": (image[:1] > 0).to(torch.uint8),
            "keypoints": torch.tensor([[[20.0, 10, 2], [44, 10, 2], [32, 18, 1]]]),  # left, right, center
        }
        return image, target

    flips = total = 0
    for seed in range(40):
        with cpu_stream(seed):
            image, target = augment(sample(), Surroundings(lambda index: sample(), 1, 10.0, mirror))
        assert target["masks"].shape[1:] == image.shape[1:]
        assert len(target["masks"]) == len(target["keypoints"]) == len(target["boxes"])
        for box, mask, points in zip(target["boxes"], target["masks"], target["keypoints"], strict=True):
            assert white(mask) == pytest.approx(box.tolist(), abs=1.51)
            left, right, center = points.tolist()
            if left[2] and right[2]:
                assert left[0] < right[0]  # by name, also after a flip
                assert [left[0], left[1], right[0]] == pytest.approx(box[:3].tolist(), abs=1e-3)
            if center[2]:
                assert box[0] - 0.01 <= center[0] <= box[2] + 0.01
            total += 1
        flips += int(not torch.equal(image, sample()[0]))
    assert total >= 15
    assert path.stem == "none" or flips > 5


def test_flipping_twice_changes_nothing(scenes30: Splits) -> None:
    split = scenes30.yielding(PARTS).train
    image, target = split[3]
    again, back = mirrored(mirrored((image, target), split.keypoint_mirror), split.keypoint_mirror)
    assert torch.equal(again, image)
    torch.testing.assert_close(back["masks"], target["masks"])
    torch.testing.assert_close(back["keypoints"], target["keypoints"], atol=1e-4, rtol=0)


def test_transforms_of_others_move_masks_but_not_keypoints(scenes30: Splits) -> None:
    from torchvision.transforms import v2

    image, target = scenes30.yielding(["masks"]).train[3]
    flipped, moved = apply(v2.RandomHorizontalFlip(1.0), (image, target))
    assert torch.equal(flipped, image.flip(-1))
    assert torch.equal(moved["masks"], target["masks"].flip(-1))
    with pytest.raises(ValueError, match="keypoints cannot be moved"):
        apply(v2.RandomHorizontalFlip(1.0), scenes30.yielding(["keypoints"]).train[3])
