"""What other tools write in VOC's name is read or named, never counted as nothing."""

import os
from pathlib import Path

import pytest

from harness.data.records import DataError
from harness.data.sources.voc import voc
from harness.data.splits import Splits
from tests.data.conftest import WriteVoc, voc_object, write_image

CAT = voc_object("cat", 11, 6, 30, 25)
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def with_xml(write_voc: WriteVoc, xml: str | bytes) -> str:
    root = write_voc({"a": "", "b": CAT}, {"train": ["a"], "val": ["b"]})
    (root / "Annotations" / "a.xml").write_bytes(xml.encode() if isinstance(xml, str) else xml)
    return str(root)


def names(splits: Splits) -> list[str]:
    return [splits.classes[label - 1] for label in splits.train[0][1]["labels"]]


@pytest.mark.parametrize(
    "xml",
    [
        f'<annotation xmlns="urn:x">{CAT}</annotation>',
        f"<annotation><objects>{CAT}</objects></annotation>",
        f"<Annotation>{CAT.replace('object>', 'Object>').replace('xmin', 'XMin')}</Annotation>",
        f"<!-- a note --><annotation><!-- {CAT} -->{CAT}</annotation>",
    ],
    ids=["namespace", "objects", "case", "comments"],
)
def test_read(write_voc: WriteVoc, xml: str) -> None:
    splits = voc(with_xml(write_voc, xml))
    assert names(splits) == ["cat"]
    assert splits.train[0][1]["boxes"].tolist() == [[10, 5, 30, 25]]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (f"<doc>{CAT}</doc>", "a.xml: the root element is <doc>; valid: <annotation>"),
        (f"<annotation>{CAT.replace('</object>', BOX + '</object>')}</annotation>", "object 0: object has 2 <bndbox>"),
        (f"<annotation><items><item>{BOX}</item></items></annotation>", "a.xml: 1 <bndbox> outside of an <object>"),
        (
            f"<annotation>{CAT.replace('<difficult>0', '<difficult>maybe')}</annotation>",
            "a.xml, object 0: flag is 'maybe'; valid: 0, false, no, empty or Unspecified; 1, true or yes",
        ),
        ('<?xml version="1.0" encoding="x-made-up"?><annotation/>', "a.xml: broken XML (unknown encoding: x-made-up)"),
        ('<?xml version="1.0" encoding="gb2312"?><annotation>\xff</annotation>', "a.xml: broken XML ("),
        (f"<annotation><size><width>wide</width></size>{CAT}</annotation>", "a.xml: size: 'wide' is not a whole"),
    ],
)
def test_named(write_voc: WriteVoc, xml: str, message: str) -> None:
    root = with_xml(write_voc, xml.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        voc(root, classes=["cat"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_of_an_object_are_no_objects(write_voc: WriteVoc) -> None:
    part = f"<part><name>head</name>{BOX}</part></object>"
    splits = voc(with_xml(write_voc, f"<annotation>{CAT.replace('</object>', part)}</annotation>"))
    assert names(splits) == ["cat"]


@pytest.mark.parametrize("encoding", ["GB2312", "GB18030", "Big5", "Shift_JIS", "utf-16", "iso-8859-1"])
def test_declared_encodings(write_voc: WriteVoc, encoding: str) -> None:
    name = {"iso-8859-1": "Käfer", "Shift_JIS": "猫"}.get(encoding, "人")
    xml = f'<?xml version="1.0" encoding="{encoding}"?><annotation>{CAT.replace("cat", name)}</annotation>'
    assert names(voc(with_xml(write_voc, xml.encode(encoding)))) == [name]


def test_korean(write_voc: WriteVoc) -> None:
    xml = f"<?xml version='1.0' encoding='EUC-KR'?><annotation>{CAT.replace('cat', '개')}</annotation>"
    assert names(voc(with_xml(write_voc, xml.encode("euc-kr")))) == ["개"]


@pytest.mark.parametrize("word", ["Unspecified", "False", "no", "0.0"])
def test_difficult_in_other_words(write_voc: WriteVoc, word: str) -> None:
    tag = CAT.replace("<difficult>0", f"<difficult>{word}")
    splits = voc(with_xml(write_voc, f"<annotation>{tag}</annotation>"))
    assert splits.train[0][1]["iscrowd"].tolist() == [0]


@pytest.mark.parametrize(
    "line",
    ["a b", '"a b"', "a b.jpg", "JPEGImages/a b.jpg", "/data/voc/JPEGImages/a b.jpg", "JPEGImages\\a b.jpg", "a b  1"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_as_people_write_them(write_voc: WriteVoc, line: str, encoding: str) -> None:
    root = write_voc({"a b": CAT, "c": CAT}, {"val": ["c"]})
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"{line}\n", encoding=encoding)
    assert voc(str(root)).train.annotations.source_ids == ("a b",)


def test_images_in_subfolders_and_hidden_files(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {})
    (root / "Annotations" / "sub").mkdir()
    (root / "Annotations" / "sub" / "c.xml").write_text(f"<annotation>{CAT}</annotation>")
    write_image(root / "JPEGImages" / "sub" / "c.jpg", 60, 40)
    for hidden in ("Annotations/._a.xml", "JPEGImages/._a.jpg", "Annotations/.DS_Store"):
        (root / hidden).write_bytes(b"\x00\x05\x16\x07Mac OS X")
    splits = voc(str(root), train_split=None, val_ratio=0.4)
    assert sorted(splits.train.annotations.files + splits.val.annotations.files) == ["a.jpg", "b.jpg", "sub/c.jpg"]


def test_an_image_of_another_format_is_named(write_voc: WriteVoc) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"]})
    os.rename(root / "JPEGImages" / "a.jpg", root / "JPEGImages" / "a.gif")
    with pytest.raises(DataError, match=r"a.jpg: image is missing; a.gif is there"):
        voc(str(root))


def test_a_refusal_does_not_hide_the_problems_that_caused_it(write_voc: WriteVoc) -> None:
    root = write_voc({"a": "<object>", "b": "<object>"}, {"train": ["a"], "val": ["b"]})
    with pytest.raises(DataError) as caught:
        voc(str(root))
    assert str(caught.value).startswith(
        "classes: none given and none found in the annotations: 2 problems\n  a.xml: broken"
    )


def test_the_home_folder(write_voc: WriteVoc, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_voc({"a": CAT, "b": CAT}, {"train": ["a"], "val": ["b"]})
    monkeypatch.setenv("HOME", str(Path(root).parent))
    assert len(voc("~/voc").train) == 1
