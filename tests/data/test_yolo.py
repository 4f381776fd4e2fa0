"""YOLO folders in Ultralytics' layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.data.records import DataError
from harness.data.sources.yolo import yolo
from harness.data.sources.yolo_layout import label_file
from tests.data.conftest import write_image

CAT = "0 0.5 0.5 0.5 0.25"
WriteYolo = Callable[..., Path]
Labels = dict[str, str | None]


@pytest.fixture
def write_yolo(tmp_path: Path) -> WriteYolo:
    """write_yolo(train={name: rows}, val=..., keys=those of data.yaml) makes a folder of 60 x 40 px images."""

    def write(train: Labels | None = None, val: Labels | None = None, keys: dict[str, Any] | None = None) -> Path:
        root = tmp_path / "yolo"
        parts = {"train": {"a": CAT} if train is None else train, "val": {"v": CAT} if val is None else val}
        for split, notes in parts.items():
            (root / "images" / split).mkdir(parents=True, exist_ok=True)
            (root / "labels" / split).mkdir(parents=True, exist_ok=True)
            for seed, (name, rows) in enumerate(notes.items()):
                write_image(root / "images" / split / f"{name}.jpg", 60, 40, seed)
                if rows is not None:
                    (root / "labels" / split / f"{name}.txt").write_text(rows)
        content = {"train": "images/train", "val": "images/val", "names": ["cat", "dog"]} | (keys or {})
        (root / "data.yaml").write_text(yaml.safe_dump({k: v for k, v in content.items() if v != "-"}))
        return root

    return write


def test_boxes_polygons_exponents_and_background(write_yolo: WriteYolo) -> None:
    rows = "0 0.5 0.5 0.5 0.25\n\n1.0 2.5e-1 .5 5E-1 1\n0 0.1 0.25 0.5 0.25 0.5 0.75\n"
    splits = yolo(str(write_yolo({"a": rows, "b": "", "c": None})))
    assert splits.classes == ("cat", "dog")
    target = splits.train[0][1]
    assert target["boxes"].tolist() == [[15, 15, 45, 25], [0, 0, 30, 40], [6, 10, 30, 30]]
    assert target["labels"].tolist() == [1, 2, 1]
    assert [len(splits.train[index][1]["boxes"]) for index in (1, 2)] == [0, 0]
    assert splits.notes[0] == "train: 3 images, val: 1 images, as data.yaml has them"
    lacking = splits.train.annotations.outlines
    assert lacking is not None
    assert lacking.present.tolist() == [False, False, True]


ROWS = {
    "2 0.5 0.5 0.1 0.1": "labels/train/a.txt, line 2: class 2; valid: 0 to 1, as data.yaml has 2 names",
    "-1 0.5 0.5 0.1 0.1": "line 2: class -1; valid",
    "0.5 0.5 0.5 0.1 0.1": "line 2: class 0.5; valid",
    "cat 0.5 0.5 0.1 0.1": "line 2: row 'cat 0.5 0.5 0.1 0.1'; valid: class cx cy w h, or",
    "0 0.5 0.5 0.1": "line 2: 3 numbers after the class; valid",
    "0 0.5 0.5 0.1 0.1 0.9": "line 2: 5 numbers after the class; valid",
    "0 30 20 10 10": "line 2: 30 is no share of the image's side; valid: 0 to 1",
    "0 nan 0.5 0.1 0.1": "line 2: a number is not finite",
    "0 0.5 0.5 0 0.1": "labels/train/a.txt, line 2: box has zero area [0.5, 0.5, 0, 0.1]",
    "0 0.5 0.5 -0.001 0.1": "line 2: box is inverted",
    "0 0.9 0.5 0.5 0.5": "line 2: box reaches 9 px over the edge of the image of 60 x 40 px",
    CAT: "line 2: the row is the same as line 1",
}


@pytest.mark.parametrize("row", ROWS)
def test_every_problem_is_named_with_file_and_line(write_yolo: WriteYolo, row: str) -> None:
    root = write_yolo({"a": f"{CAT}\n{row}\n"})
    with pytest.raises(DataError) as caught:
        yolo(str(root))
    assert ROWS[row] in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = yolo(str(root), on_bad="drop").train[0][1]["boxes"]
    assert len(kept) == (2 if "reaches" in ROWS[row] else 1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"names": "-"}, "no names; valid"),
        ({"names": {1: "cat"}}, "names must number the classes 0, 1, 2"),
        ({"names": ["a", "a"]}, "the name 'a' is there twice"),
        ({"nc": 3}, "nc is 3, but there are 2 names"),
        ({"train": "-"}, "no 'train'; valid: a folder, a list of images or a pattern"),
        ({"train": "gone"}, "train: .*gone does not exist"),
        ({"train": [7]}, "train has 7; valid"),
        ({"train": "labels"}, r"train \(labels\) has no image"),
        ({"train": "/etc"}, "'/etc' leaves the data's folder; data.allow_outside=true"),
        ({"path": "/usr"}, "'/usr' leaves the data's folder"),
    ],
)
def test_a_wrong_data_yaml(write_yolo: WriteYolo, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        yolo(str(write_yolo(keys=keys)))
    assert "\n" not in str(caught.value)


def test_a_broken_data_yaml(write_yolo: WriteYolo, tmp_path: Path) -> None:
    root = write_yolo()
    for text, message in {
        "names: [": "is not readable YAML",
        "[" * 5000: "nested too deeply",
        "- a": "no keys",
        "": "no keys",
        "\x00": "is not readable YAML",
    }.items():
        (root / "data.yaml").write_text(text)
        with pytest.raises(DataError, match=message):
            yolo(str(root))
    (root / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"has no .yaml file; valid: one data.yaml, or data.root=FILE"):
        yolo(str(root))
    with pytest.raises(DataError, match=r"root: .*gone is not there"):
        yolo(str(tmp_path / "gone"))


def test_lists_patterns_and_several_folders(write_yolo: WriteYolo) -> None:
    root = write_yolo({"b": CAT, "a": CAT, "c": CAT}, keys={"names": {0: "cat", 1: "dog"}})
    (root / "lists").mkdir()
    (root / "lists" / "some.txt").write_text("images/train/c.jpg\n./../images/train/a.jpg\n\n")
    for train, expected in (
        ("lists/some.txt", ["c", "a"]),
        ("images/train/[ab].jpg", ["a", "b"]),
        (["images/train/b.jpg", "images/train"], ["b", "a", "c"]),
    ):
        content = {"train": train, "val": "images/val", "names": {0: "cat", 1: "dog"}}
        (root / "data.yaml").write_text(yaml.safe_dump(content))
        splits = yolo(str(root / "data.yaml"))
        assert [Path(file).stem for file in splits.train.annotations.files] == expected


def test_roboflows_paths_and_a_path_that_is_elsewhere(write_yolo: WriteYolo) -> None:
    splits = yolo(str(write_yolo(keys={"path": "../datasets/coco8"})))
    assert splits.notes[1] == "path: ../datasets/coco8 does not exist, the folder of data.yaml is taken"
    root = write_yolo()
    content = {"train": "../images/train", "val": "../images/val", "names": ["cat"]}
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    splits = yolo(str(root))
    assert "train: ../images/train does not exist, images/train beside data.yaml is taken" in splits.notes


def test_labels_and_lists_in_capitals(write_yolo: WriteYolo) -> None:
    """A label file that is not found would make its image one without objects, without a word."""
    root = write_yolo({"a": CAT}, keys={"train": "TRAIN.TXT"})
    (root / "TRAIN.TXT").write_text("images/train/a.JPG\n")
    (root / "images/train/a.jpg").rename(root / "images/train/a.JPG")
    (root / "labels/train/a.txt").rename(root / "labels/train/a.TXT")
    (root / "data.yaml").rename(root / "data.YAML")
    assert yolo(str(root)).train[0][1]["labels"].tolist() == [1]


def test_a_share_is_held_out_and_classes_are_chosen(write_yolo: WriteYolo) -> None:
    root = write_yolo(dict.fromkeys("abcd", f"{CAT}\n1 0.5 0.5 0.2 0.2"), {})
    splits = yolo(str(root), val_ratio=0.25, classes=["dog"])
    assert (len(splits.train), len(splits.val), splits.classes) == (3, 1, ("dog",))
    assert splits.train[0][1]["labels"].tolist() == [1]
    with pytest.raises(DataError, match=r"classes: 'bird' is not a name of data.yaml; valid: cat, dog"):
        yolo(str(root), val_ratio=0.25, classes=["bird"])


def test_where_labels_are() -> None:
    assert label_file("/d/images/train/a.b.jpg") == Path("/d/labels/train/a.b.txt")
    assert label_file("/d/images/x/images/a.jpg") == Path("/d/images/x/labels/a.txt")
    assert label_file("/d/train/a.jpg") == Path("/d/train/a.txt")
