"""File names, links and folders as they really lie on disks: all images are read, or one line says which is not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.export import to_coco
from harness.data.folders import files_below
from harness.data.images import read_image
from harness.data.records import DataError
from harness.data.sources.coco import coco
from harness.data.sources.voc import voc
from harness.data.sources.yolo import yolo
from harness.data.splits import Splits
from harness.runs.records import read_json, write_json
from tests.data.conftest import voc_object, write_image
from tests.permissions import bits_count

# A space, an umlaut, a line break, an escape of a terminal, dashes, signs of patterns, of Hydra, of printf and of XML,
# quotes, a backslash, the longest name, spaces at the ends, and bytes that are not UTF-8.
NAMES = [
    "a b", "ümläut", "new\nline", "\x1b[31mred", "-dash", "--help", "[x] (1)", "*star?", "a=b,c", "${b}", "100%", "%s",
    "<a>&", "dot.in.name", "quo'te\"", "back\\slash", "x" * 240, " lead", "trail ", "~", "\udcff\udcfe", "a.jpg", "-1",
]  # fmt: skip
Load = Callable[..., Splits]


def data_set(kind: str, root: Path, names: list[str], **more: Any) -> Load:
    """A data set of 60 x 40 px images with one object each; returns what reads it, a third held out."""
    if kind == "voc":
        (root / "Annotations").mkdir(parents=True)
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        for seed, name in enumerate(names):
            write_image(root / "JPEGImages" / f"{name}.jpg", 60, 40, seed)
            xml = f"<annotation>{size}{voc_object('cat', 5, 5, 20, 20)}</annotation>"
            (root / "Annotations" / f"{name}.xml").write_text(xml)
        return lambda **options: voc(str(root), train_split=None, val_ratio=0.34, **options)
    if kind == "yolo":
        (root / "labels" / "train").mkdir(parents=True)
        for seed, name in enumerate(names):
            write_image(root / "images" / "train" / f"{name}.jpg", 60, 40, seed)
            (root / "labels" / "train" / f"{name}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
        (root / "data.yaml").write_text(json.dumps({"train": "images/train", "names": ["cat"], **more}))
        return lambda **options: yolo(str(root), val_ratio=0.34, **options)
    for seed, name in enumerate(names):
        write_image(root / "images" / f"{name}.jpg", 60, 40, seed)
    images = [{"id": i, "file_name": f"{name}.jpg", "width": 60, "height": 40} for i, name in enumerate(names)]
    box = {"category_id": 1, "bbox": [5, 5, 15, 15], "area": 225, "iscrowd": 0}
    objects = [{"id": i, "image_id": i, **box} for i in range(len(names))]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    (root / "train.json").write_text(json.dumps(content))
    given = {"train_annotations": "train.json", "train_images": "images", "val_ratio": 0.34}
    return lambda **options: coco(str(root), **given, **options)  # type: ignore[arg-type]


@pytest.fixture(params=["voc", "yolo", "coco"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def files_of(splits: Splits) -> set[str]:
    return {Path(str(file)).stem for part in (splits.train, splits.val) for file in part.annotations.files}


def test_names_of_every_kind(kind: str, tmp_path: Path) -> None:
    splits = data_set(kind, tmp_path / "my [set] *", NAMES)()
    assert not splits.problems
    assert files_of(splits) == set(NAMES)
    for part in (splits.train, splits.val):
        assert all(image.shape == (3, 40, 60) and len(target["boxes"]) == 1 for image, target in part)
    write_json(tmp_path / "annotations.json", to_coco(splits.val))
    assert read_json(tmp_path / "annotations.json")["images"] == to_coco(splits.val)["images"]


def test_a_problem_stays_on_its_line(kind: str, tmp_path: Path) -> None:
    load = data_set(kind, tmp_path / "data", ["new\nline", "\x1b[31mred", "a", "b", "c"])
    for name in ("new\nline", "\x1b[31mred"):
        next((tmp_path / "data").rglob(f"{name}.jpg")).write_bytes(b"")
    with pytest.raises(DataError) as refused:
        load()
    lines = str(refused.value).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert len(load(on_bad="drop").problems) == 2


def test_what_a_link_to_an_image_leads_to(kind: str, tmp_path: Path) -> None:
    load = data_set(kind, tmp_path / "data", list("abc"))
    image = next((tmp_path / "data").rglob("a.jpg"))
    image.rename(tmp_path / "elsewhere.jpg")
    image.symlink_to(tmp_path / "elsewhere.jpg")
    assert len(load().train) + len(load().val) == 3
    for target, said in (("gone.jpg", "a.jpg: image is a link to gone.jpg, which is missing"), ("a.jpg", "a.jpg: ")):
        image.unlink()
        image.symlink_to(target)  # the second one leads to itself
        with pytest.raises(DataError, match=said):
            load()


@pytest.mark.parametrize("kind", ["voc", "yolo"], indirect=True)
def test_linked_folders_are_looked_into_once(kind: str, tmp_path: Path) -> None:
    load = data_set(kind, tmp_path / "data", list("abc"))
    data_set(kind, tmp_path / "shared", list("xyz"))
    for folder in ("JPEGImages", "Annotations", "images/train", "labels/train"):
        if (tmp_path / "data" / folder).is_dir():
            (tmp_path / "data" / folder / "more").symlink_to(tmp_path / "shared" / folder)
            (tmp_path / "data" / folder / "loop").symlink_to(tmp_path / "data" / folder)
    splits = load()
    assert files_of(splits) == set("abcxyz")
    assert len(splits.train) + len(splits.val) == 6


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg", ".hidden.jpg", ".hidden/c.jpg"):
        write_image(tmp_path / name, 6, 4)
    assert files_below(str(tmp_path)) == ["a.jpg", "sub/b.jpg"]
    (tmp_path / "sub").chmod(0)
    with bits_count(), pytest.raises(DataError, match=r"/sub: Permission denied; valid: folders that can be read$"):
        files_below(str(tmp_path))
    (tmp_path / "sub").chmod(0o700)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        (["images/train/a[1].jpg", "images/train/b.jpg"], {"a[1]", "b"}),
        ("images/train/*.jpg", {"a[1]", "b", "c"}),
        ("images/train/[bc].jpg", {"b", "c"}),
    ],
)
def test_signs_of_patterns_in_names(train: Any, expected: set[str], tmp_path: Path) -> None:
    """What is called like the entry is meant; otherwise the entry is a pattern, but not the folder before it."""
    load = data_set("yolo", tmp_path / "my [set]", ["a[1]", "b", "c"], train=train)
    assert files_of(load()) == expected


def test_an_image_that_nobody_looked_at_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    load = data_set(kind, tmp_path / "data", list("abc"))
    next((tmp_path / "data").rglob("a.jpg")).write_bytes(b"")
    with pytest.raises(DataError, match=r"a.jpg: not an image that can be read$"):
        load(check="none")


def test_an_image_that_pillow_takes_for_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = data_set("yolo", tmp_path / "data", list("abc"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"a.jpg: image is too large: Pillow opens at most 2000 pixels"):
        load()


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "LA", "1"])
def test_images_of_other_modes(mode: str, tmp_path: Path) -> None:
    pixels = Image.fromarray(np.full((40, 60, 3), 200, np.uint8))
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    pixels.convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (3, 40, 60)
    assert abs(image.float().mean().item() - (255 if mode == "1" else 200)) < 60


def test_the_first_picture_of_several_is_taken(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((4, 6, 3), value, np.uint8)) for value in (10, 250))
    for suffix in ("png", "gif", "webp", "tif"):
        options = {"lossless": True} if suffix == "webp" else {}
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **options)
        assert (read_image(tmp_path / f"a.{suffix}") == 10).all()


@pytest.mark.skipif(os.name != "posix", reason="such names are of POSIX")
def test_evaluation_knows_names_as_training_does(tmp_path: Path) -> None:
    """A list of VOC with spaces, suffixes and folders; two images of one name in different folders."""
    from harness.evaluation.formats import read_annotations, read_detections

    data_set("voc", tmp_path, ["a b", "sub"])
    (tmp_path / "Annotations" / "cam").mkdir()
    (tmp_path / "Annotations" / "sub.xml").rename(tmp_path / "Annotations" / "cam" / "c.xml")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a b\ncam/c.jpg\n")
    annotations, _ = read_annotations(tmp_path)
    assert [row["file_name"] for row in annotations["images"]] == ["a b.jpg", "cam/c.jpg"]
    found = tmp_path / "found"
    found.mkdir()
    (found / "c.txt").write_text("0 0.5 0.5 0.1 0.1 0.9\n")
    assert [row["image_id"] for row in read_detections(found, annotations)] == [2]
    annotations["images"].append({"id": 3, "file_name": "other/c.jpg", "width": 60, "height": 40})
    with pytest.raises(ValueError, match=r"c.txt: the annotations have several images of this name \(cam/c.jpg, other"):
        read_detections(found, annotations)
