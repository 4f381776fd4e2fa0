"""``mode=check`` asks a source whether its files are there, and reads none of the annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.data.records import DataError
from harness.data.sources import look_for
from harness.data.sources.coco import coco
from harness.data.sources.lvis import lvis
from harness.data.sources.shapes import shapes
from harness.data.sources.voc import voc
from harness.data.sources.yolo import yolo

SOURCES = (voc, coco, lvis, yolo)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_a_root_that_does_not_exist(source: Any) -> None:
    with pytest.raises(DataError, match=r"^root: /nowhere is not") as looked:
        look_for(source, {"root": "/nowhere", "classes": None})
    with pytest.raises(DataError) as read:
        source("/nowhere")
    assert str(looked.value) == str(read.value), "one fault, one line"


FILES = {
    voc: ("Annotations/a.xml", "JPEGImages/a.jpg", "ImageSets/Main/train.txt", "ImageSets/Main/val.txt"),
    coco: ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    lvis: ("lvis_v1_train.json", "lvis_v1_val.json"),
    yolo: ("data.yaml", "images/train/a.jpg", "images/val/b.jpg"),
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_each_file_that_is_missing_is_named_and_none_is_read(source: Any, tmp_path: Path) -> None:
    for name in FILES[source]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no annotations")
    if source is yolo:
        (tmp_path / "data.yaml").write_text("{train: images/train, val: images/val, names: [cat]}")
    look_for(source, {"root": str(tmp_path)})
    last = tmp_path / FILES[source][-1]
    last.unlink()
    if source is yolo:
        last.parent.rmdir()
    with pytest.raises(DataError, match="val"):
        look_for(source, {"root": str(tmp_path)})
    look_for(source, {"root": str(tmp_path), "val_ratio": 0.2})


def test_image_folders_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    files = {"root": str(tmp_path), "train_annotations": "a.json", "val_ratio": 0.2}
    with pytest.raises(DataError, match=r"^train_images: .*gone is not a folder"):
        look_for(coco, {**files, "train_images": "gone"})
    with pytest.raises(DataError, match=r"^images: .*gone is not a folder"):
        look_for(lvis, {**files, "images": "gone"})


def test_a_source_that_draws_its_images_is_not_asked() -> None:
    look_for(shapes, {"num_train": 3})
