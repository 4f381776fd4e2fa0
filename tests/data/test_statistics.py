import json
import logging
from collections import Counter

import numpy as np
import pytest

from harness.data.class_counts import class_counts
from harness.data.sources.coco import coco
from harness.data.splits import Splits
from harness.data.summary import describe, log_splits, spread
from tests.data.conftest import WriteCoco


def test_counts_and_quantiles(write_coco: WriteCoco) -> None:
    boxes = [[0, 0, 10, 10], [5, 5, 20, 5], [0, 0, 40, 30]]
    content = {
        "images": {1: (60, 40), 2: (60, 40), 3: (60, 40)},
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1 + k % 2, "bbox": box, "iscrowd": int(k == 2)}
            for k, box in enumerate(boxes)
        ]
        + [{"id": 9, "image_id": 2, "category_id": 1, "bbox": [0, 0, 0, 4]}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    options = {"train_annotations": "train.json", "train_images": "train", "val_annotations": "train.json"}
    found = describe(coco(str(write_coco(train=content)), **options, val_images="train", on_bad="drop"))
    assert json.loads(json.dumps(found)) == found
    train = found["train"]
    assert (train["images"], train["images_without_objects"], train["objects"], train["ignored"]) == (3, 2, 2, 1)
    assert train["objects_per_class"] == {"cat": 1, "dog": 1}
    assert train["objects_per_image"]["max"] == 2
    assert train["box_side"]["median"] == 10
    assert train["box_aspect"]["max"] == 4
    assert train["box_share"]["min"] == 100 / 2400
    assert train["image_width"]["mean"] == 60
    assert found["problems"][0]["file"] == "train.json"
    assert found["problems"][0]["object"] == 9
    assert found["problems"][0]["outcome"] == "dropped"


def test_of_the_embedded_data(scenes30: Splits) -> None:
    found = describe(scenes30)
    assert found["problems"] == []
    assert sum(found["train"]["objects_per_class"].values()) == found["train"]["objects"]
    assert found["val"]["images"] == 8
    assert found["fingerprint"] == scenes30.fingerprint


def test_spread_of_nothing() -> None:
    assert spread(np.zeros(0)) == {}


def test_class_counts_are_those_of_a_loop(scenes30: Splits) -> None:
    counts = class_counts(scenes30.train)
    images, objects = Counter(), Counter()
    for index in range(len(scenes30.train)):
        target = scenes30.train[index][1]
        labels = [int(k) for k, crowd in zip(target["labels"], target["iscrowd"], strict=True) if not crowd]
        objects.update(labels)
        images.update(set(labels))
    classes = range(1, len(scenes30.classes) + 1)
    assert counts.objects.tolist() == [objects[k] for k in classes]
    assert counts.images.tolist() == [images[k] for k in classes]
    assert counts.num_images == len(scenes30.train)


def test_classes_that_cannot_be_evaluated_are_said(write_coco: WriteCoco, caplog: pytest.LogCaptureFixture) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "d\no\x1b[2Jg"}]  # foreign texts stay on one line
    note = {"id": 1, "image_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}
    both = [{**note, "category_id": 1}, {**note, "id": 2, "category_id": 2}]
    train = {"images": {1: (60, 40)}, "annotations": both, "categories": categories}
    root = str(write_coco(train=train, val={**train, "annotations": both[:1]}))
    names = {"train_annotations": "train.json", "val_annotations": "val.json"}
    splits = coco(root, **names, train_images="train", val_images="val")
    with caplog.at_level(logging.INFO):
        caplog.clear()
        log_splits(splits)
    assert caplog.messages == [
        "data: 1 training images with 2 objects, 1 validation images with 1 objects; 2 classes: cat, d\\no\\x1b[2Jg",
        "data: no validation object of d\\no\\x1b[2Jg: no AP for it",
    ]
