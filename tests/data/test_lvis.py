"""data=lvis: what LVIS adds to COCO's files is read, and every wrong input is named in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.data.records import DataError
from harness.data.sources.lvis import lvis
from tests.data.conftest import WriteCoco

CATEGORIES = [
    {"id": k, "name": name, "frequency": f} for k, name, f in ((1, "cat", "r"), (5, "dog", "c"), (7, "emu", "f"))
]
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0}
SPLIT = {"images": {1: (60, 40), 2: (60, 40)}, "annotations": [BOX], "categories": CATEGORIES}


@pytest.fixture
def root(write_coco: WriteCoco) -> Path:
    folder = write_coco(train=SPLIT, val=SPLIT)
    change(folder, "train", images={"neg_category_ids": [5], "not_exhaustive_category_ids": [1]})
    change(folder, "val")
    return folder


def change(root: Path, split: str, **first: dict[str, Any]) -> None:
    """Sets keys of the first image, category or annotation, and names images as LVIS does."""
    content = json.loads((root / f"{split}.json").read_text())
    for image in content["images"]:
        image.pop("file_name", None)
        image["coco_url"] = f"http://images.cocodataset.org/{split}/{image['id']}.jpg"
    for group, keys in first.items():
        content[group][0] = {key: value for key, value in {**content[group][0], **keys}.items() if value != "gone"}
    (root / f"{split}.json").write_text(json.dumps(content))


def load(root: Path, **more: Any) -> Any:
    return lvis(str(root), train_annotations="train.json", val_annotations="val.json", **more)


def test_groups_and_lists_of_an_image(root: Path) -> None:
    federated = load(root).train.annotations.federated
    assert federated.frequencies == ("r", "c", "f")
    assert federated.negative_offsets.tolist() == [0, 1, 1]
    assert (federated.negative.tolist(), federated.not_exhaustive.tolist()) == ([2], [1])


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"categories": {"frequency": "gone"}}, "train.json: a category lacks its frequency (r, c or f); valid: LVIS"),
        ({"categories": {"frequency": "x"}}, "train.json: a category lacks its frequency (r, c or f); valid: LVIS"),
        ({"images": {"neg_category_ids": [99]}}, "train.json: image 1: neg_category_ids [99] (valid: a list of cat"),
        ({"images": {"neg_category_ids": 5}}, "train.json: image 1: neg_category_ids 5 (valid: a list of category ids"),
        ({"images": {"not_exhaustive_category_ids": [[1]]}}, "not_exhaustive_category_ids [[1]] (valid: a list of"),
        ({"annotations": {"category_id": 2}}, "train.json, object 1: unknown class, category_id 2"),
    ],
)
def test_wrong_files_are_refused_in_one_line(root: Path, first: dict[str, Any], message: str) -> None:
    change(root, "train", **first)
    with pytest.raises(DataError) as caught:
        load(root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if "images" in first:
        assert load(root, on_bad="drop").train.annotations.federated.negative_offsets[1] <= 1


def test_missing_places_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"root: .*gone is not a folder"):
        lvis(str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"lvis_v1_train.json is missing; there: train.json, val.json"):
        lvis(str(root))
    with pytest.raises(ValueError, match=r"orientation=.turned. must be one of stored, exif"):
        load(root, orientation="turned")
    with pytest.raises(DataError, match="classes: 'cow' is not a category; valid: cat, dog, emu"):
        load(root, classes=["cow"])
