from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from harness.data.records import DataError
from harness.data.sources.voc import voc
from harness.evaluation.formats import read_annotations
from tests.data.conftest import WriteVoc, voc_object, write_image

CAT = voc_object("cat", 11, 6, 30, 25)
DOG = voc_object("dog", 1, 1, 60, 40)


def one_line(caught: pytest.ExceptionInfo[DataError]) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_based_corners_become_continuous(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT + DOG, "b": CAT}, {"train": ["a"], "val": ["b"]})
    splits = voc(str(root))
    assert splits.classes == ("cat", "dog")
    image, target = splits.train[0]
    assert tuple(image.shape) == (3, 40, 60)
    assert target["boxes"].tolist() == [[10, 5, 30, 25], [0, 0, 60, 40]]
    assert target["labels"].tolist() == [1, 2]
    assert target["area"].tolist() == [400, 2400]
    zero_based = voc(str(root), one_based=False).train[0][1]
    assert zero_based["boxes"][0].tolist() == [11, 6, 30, 25]


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".Jpeg", ".png", ".PNG"])
def test_any_suffix_in_any_case(write_voc: WriteVoc, suffix: str) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"]}, suffix)
    splits = voc(str(root))
    assert splits.train.annotations.files == (f"a{suffix}",)
    assert splits.train[0][0].shape == (3, 40, 60)


def test_annotations_and_lists_in_capitals(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b.XML"]})
    for file in [*root.glob("Annotations/*.xml"), *root.glob("JPEGImages/*.jpg"), *root.glob("ImageSets/Main/*.txt")]:
        file.rename(file.with_suffix(file.suffix.upper()))
    splits = voc(str(root))
    assert [one[0][1]["labels"].tolist() for one in (splits.train, splits.val)] == [[1], [1]]
    document, problems = read_annotations(root, "val")
    assert (len(document["images"]), len(document["annotations"]), problems) == (1, 1, ())
    (root / "Annotations" / "a.XML").write_text("<annotation>")
    with pytest.raises(DataError, match=r"a\.XML"):
        voc(str(root))


def test_of_two_images_of_one_stem_vocs_own_format_wins(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"]})
    write_image(root / "JPEGImages" / "a.png", 20, 20)
    assert voc(str(root)).train.annotations.files == ("a.jpg",)


@pytest.mark.parametrize(
    ("tag", "difficult"),
    [("<difficult>1</difficult>", 1), ("<difficult>0</difficult>", 0), ("", 0), ("<difficult/>", 0)],
)
def test_difficult(write_voc: WriteVoc, tag: str, difficult: int) -> None:
    objects = voc_object("cat", 11, 6, 30, 25, extra=tag)
    root = write_voc({"a": objects, "b": CAT}, {"train": ["a"], "val": ["b"]})
    splits = voc(str(root))
    assert splits.train[0][1]["iscrowd"].tolist() == [difficult]
    assert splits.train.annotations.difficult.tolist() == [bool(difficult)]
    assert voc(str(root), ignore_difficult=False).train[0][1]["iscrowd"].tolist() == [0]


def test_image_without_objects(write_voc: WriteVoc) -> None:
    splits = voc(str(write_voc({"a": "", "b": CAT}, {"train": ["a"], "val": ["b"]})))
    target = splits.train[0][1]
    assert tuple(target["boxes"].shape) == (0, 4)
    assert target["labels"].dtype == torch.int64
    assert splits.classes == ("cat",)


def test_given_classes_set_the_labels(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT + DOG, "b": CAT}, {"train": ["a"], "val": ["b"]})
    assert voc(str(root), classes=["dog", "cat"]).train[0][1]["labels"].tolist() == [2, 1]


def test_a_class_that_is_listed_twice_is_refused(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT + DOG, "b": CAT}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(ValueError, match="classes: 'cat' is listed twice"):
        voc(str(root), classes=["cat", "dog", "cat"])


def test_objects_of_classes_that_are_not_chosen_are_left_out(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT + DOG, "b": CAT}, {"train": ["a"], "val": ["b"]})
    splits = voc(str(root), classes=["cat", "bird"])
    assert splits.train[0][1]["labels"].tolist() == [1]
    assert splits.problems == ()
    assert splits.notes == (
        "left out, as data.classes does not list them: 1 objects of dog (1)",
        "split 'train': no object of bird",
        "split 'val': no object of bird",
    )
    with pytest.raises(DataError, match=r"^classes: no object of person; valid: cat, dog$"):
        voc(str(root), classes=["person"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat", r"classes='cat' must be a list: data.classes=\[cat\]"),
        ("cat, dog", r"must be a list: data.classes=\[cat,dog\]"),
        ({"cat": 1}, "must be a list of names"),
        ([None], r"classes=\[None\] must be a list of names"),
        ([], r"classes=\[\] must be a list of names"),
        (3, "classes=3 must be a list of names"),
    ],
)
def test_what_is_no_list_of_classes(write_voc: WriteVoc, classes: Any, message: str) -> None:
    root = write_voc({"a": CAT + DOG, "b": CAT}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(ValueError, match=message) as caught:
        voc(str(root), classes=classes)
    assert "\n" not in str(caught.value)


def test_a_list_with_a_second_column(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT, "c": CAT}, {"train": ["a  1", "c -1", ""], "val": ["b  1"]})
    assert voc(str(root)).train.annotations.source_ids == ("a", "c")


def test_ratio_of_all_annotations(write_voc: WriteVoc) -> None:
    root = write_voc({f"i{k}": CAT for k in range(10)}, {})
    splits = voc(str(root), train_split=None, val_ratio=0.3, split_seed=4)
    train, val = splits.train.annotations.source_ids, splits.val.annotations.source_ids
    assert (len(train), len(val)) == (7, 3)
    assert sorted({*train, *val}) == [f"i{k}" for k in range(10)]
    again = voc(str(root), train_split=None, val_ratio=0.3, split_seed=4)
    assert again.fingerprint == splits.fingerprint
    other = voc(str(root), train_split=None, val_ratio=0.3, split_seed=5)
    assert other.val.annotations.source_ids != val


def test_ratio_of_a_list(write_voc: WriteVoc) -> None:
    root = write_voc({f"i{k}": CAT for k in range(6)}, {"some": ["i1", "i2", "i3", "i4"]})
    splits = voc(str(root), train_split="some", val_ratio=0.01)
    assert (len(splits.train), len(splits.val)) == (3, 1)


def test_what_is_missing_is_named_in_one_line(write_voc: WriteVoc, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"root: .*nowhere is not a folder") as caught:
        voc(str(tmp_path / "nowhere"))
    one_line(caught)
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"], "empty": []})
    with pytest.raises(DataError, match=r"split 'tset' is not in .*; valid: empty, train, val") as caught:
        voc(str(root), val_split="tset")
    one_line(caught)
    with pytest.raises(DataError, match=r"split 'empty' is empty: .*empty.txt") as caught:
        voc(str(root), train_split="empty")
    one_line(caught)
    with pytest.raises(ValueError, match=r"^val_ratio=1.5 must be above 0 and below 1, or null$"):
        voc(str(root), val_ratio=1.5)
    with pytest.raises(DataError, match=r"train_split and val_split: both are needed"):
        voc(str(root), train_split=None)
    with pytest.raises(ValueError, match=r"^on_bad='ignore' must be one of error, drop$"):
        voc(str(root), on_bad="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^cache_bytes=-1 must be at least 0$"):
        voc(str(root), cache_bytes=-1)


def test_no_list_at_all_points_to_the_ratio(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT}, {})
    with pytest.raises(DataError, match=r"valid: there is no list; data.train_split=null data.val_ratio=0.2"):
        voc(str(root))


BROKEN = {
    "inverted": (voc_object("cat", 30, 6, 11, 25), "inverted.xml, object 0: box is inverted [30, 6, 11, 25]"),
    "point": (CAT + voc_object("cat", 7, 7, 7, 7), "point.xml, object 1: box has zero area [7, 7, 7, 7]"),
    "line": (voc_object("cat", 7, 7, 20, 7), "line.xml, object 0: box has zero area [7, 7, 20, 7]"),
    "nan": (voc_object("cat", float("nan"), 7, 20, 9), "nan.xml, object 0: box is not finite [nan, 7, 20, 9]"),
    "outside": (voc_object("cat", 70, 7, 80, 9), "outside.xml, object 0: box lies outside the image of 60 x 40 px"),
    "overhang": (
        voc_object("cat", 50, 7, 72, 39),
        "overhang.xml, object 0: box reaches 12 px over the edge of the image of 60 x 40 px [50, 7, 72, 39]",
    ),
    "words": (CAT.replace("11", "left"), "words.xml, object 0: bndbox lacks a number; valid: xmin, ymin, xmax, ymax"),
    "nobox": ("<object><name>cat</name></object>", "nobox.xml, object 0: bndbox lacks a number"),
    "noname": (CAT.replace("<name>cat</name>", ""), "noname.xml, object 0: object has no name"),
    "size": (
        "<size><width>30</width><height>40</height></size>",
        "size.xml: size is written as 30 x 40 px, but size.jpg has 60 x 40 px",
    ),
    "xml": ("<object>", "xml.xml: broken XML"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_problem_is_named_with_file_and_object(write_voc: WriteVoc, kind: str) -> None:
    objects, message = BROKEN[kind]
    root = write_voc({kind: objects, "good": CAT}, {"train": [kind, "good"], "val": ["good"]})
    if kind == "size":  # the first size in the file is the one that counts
        path = root / "Annotations" / "size.xml"
        path.write_text(f"<annotation>{objects}</annotation>")
    with pytest.raises(DataError) as caught:
        voc(str(root), val_split="train")
    assert message in str(caught.value)
    splits = voc(str(root), on_bad="drop", val_split="train")
    assert any(message in str(problem) for problem in splits.problems)
    for index in range(len(splits.train)):
        boxes = splits.train[index][1]["boxes"]
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    if kind == "overhang":
        assert splits.train[0][1]["boxes"].tolist() == [[49, 6, 60, 39]]
        assert splits.problems[0].outcome == "cut"


def test_missing_truncated_and_foreign_images(write_voc: WriteVoc) -> None:
    names = ["gone", "cut", "text", "deep", "noxml", "good"]
    root = write_voc(dict.fromkeys(names, CAT), {"train": names, "val": ["v"]})
    images = root / "JPEGImages"
    (images / "gone.jpg").unlink()
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:-400])
    (images / "text.jpg").write_text("not an image")
    (images / "deep.jpg").unlink()
    Image.new("I;16", (60, 40)).save(images / "deep.png")
    (root / "Annotations" / "noxml.xml").unlink()
    (root / "Annotations" / "v.xml").write_text(f"<annotation>{CAT}</annotation>")
    write_image(images / "v.jpg", 60, 40)
    for cache_bytes in (10**8, 0):  # decoded or only probed
        with pytest.raises(DataError, match=r"5 problems"):
            voc(str(root), cache_bytes=cache_bytes)
        splits = voc(str(root), on_bad="drop", cache_bytes=cache_bytes)
        assert splits.train.annotations.source_ids == ("good",)
        words = [str(problem) for problem in splits.problems]
        assert words[0] == "noxml.xml: annotation is missing"
        assert words[1] == "gone.jpg: image is missing"
        assert words[2].startswith("cut.jpg: image is truncated or corrupt")
        assert words[3] == "text.jpg: not an image that can be read"
        assert words[4] == "deep.png: has I;16 pixels, not 8 bits a channel"


def test_one_problem_is_one_line_and_many_end_in_a_count(write_voc: WriteVoc) -> None:
    bad = "".join(voc_object("cat", 9, 9, 9, k + 10) for k in range(14))
    root = write_voc({"a": bad, "b": CAT}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(DataError) as caught:
        voc(str(root))
    lines = str(caught.value).splitlines()
    assert lines[0] == "bad data (on_bad=drop goes on without it): 14 problems"
    assert len(lines) == 12
    assert lines[-1] == "  and 4 more"


def test_nothing_left(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"]})
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"split 'train': no image is left: a.jpg: image is missing"):
        voc(str(root), on_bad="drop")
    root = write_voc({"a": "", "b": ""}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(DataError, match=r"classes: none given and none found"):
        voc(str(root), on_bad="drop")


def test_an_image_twice(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a", "a"], "val": ["b"]})
    with pytest.raises(DataError, match=r"a.xml: image 'a' is listed 2 times"):
        voc(str(root))
    assert len(voc(str(root), on_bad="drop").train) == 1


def test_validation_images_are_kept_out_of_training(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a", "b"], "val": ["b"]})
    with pytest.raises(DataError, match=r"b.jpg: image is in split 'train' and in split 'val'"):
        voc(str(root))
    assert voc(str(root), on_bad="drop").train.annotations.source_ids == ("a",)
    overfit = voc(str(root), val_split="train")
    assert len(overfit.train) == len(overfit.val) == 2


def test_the_fingerprint_follows_annotations_not_paths(write_voc: WriteVoc, tmp_path: Path) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"]})
    before = voc(str(root)).fingerprint
    moved = root.rename(tmp_path / "elsewhere")
    assert voc(str(moved)).fingerprint == before
    assert voc(str(moved), classes=["cat", "dog"]).fingerprint != before
    assert voc(str(moved), train_split="val", val_split="train").fingerprint != before
    path = moved / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("<xmin>11", "<xmin>12"))
    assert voc(str(moved)).fingerprint != before


def test_images_are_kept_in_memory_up_to_the_bound(write_voc: WriteVoc) -> None:
    root = write_voc(dict.fromkeys("abc", CAT), {"train": ["a", "b"], "val": ["c"]})
    one = 60 * 40 * 3
    for bound, kept in ((0, (0, 0)), (one, (1, 0)), (2 * one, (2, 0)), (10 * one, (2, 1))):
        splits = voc(str(root), cache_bytes=bound)
        assert (len(splits.train.images.kept), len(splits.val.images.kept)) == kept  # type: ignore[attr-defined]
        if bound == one:
            partly = [splits.train[i][0] for i in range(2)]
    wholly = [splits.train[i][0] for i in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(partly, wholly, strict=True))
    wholly[0].zero_()
    assert splits.train[0][0].any()  # what is handed out is the caller's own


def test_bccd(bccd: str) -> None:
    with pytest.raises(DataError) as caught:
        voc(bccd)
    assert "BloodImage_00343.xml, object 3: box has zero area" in str(caught.value)
    assert "BloodImage_00338.xml, object 12: box has zero area" in str(caught.value)
    splits = voc(bccd, on_bad="drop")
    assert (len(splits.train), len(splits.val)) == (205, 87)
    assert splits.classes == ("Platelets", "RBC", "WBC")
    assert len(splits.problems) == 2
    image, target = splits.val[0]
    assert tuple(image.shape) == (3, 480, 640)
    assert target["boxes"][0].tolist() == [259, 176, 491, 376]
    # 2,805 and 1,138 <object> tags in the files of the two lists, less the bad one of each.
    assert (len(splits.train.annotations.labels), len(splits.val.annotations.labels)) == (2804, 1137)
