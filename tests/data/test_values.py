"""One parser each for flags, ids, whole numbers, class names and paths."""

from pathlib import Path
from typing import Any

import pytest

from harness.data.values import BadValue, flag, identifier, image_path, text_of, whole_number


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", " ", "0", "0.0", "False", "no", "Unspecified", "NO"])
def test_words_for_no(value: Any) -> None:
    assert flag(value) is False


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "1.0", "true", "Yes", " 1 "])
def test_words_for_yes(value: Any) -> None:
    assert flag(value) is True


@pytest.mark.parametrize("value", ["maybe", 2, -1, [], {}, "nan", float("nan")])
def test_what_is_no_flag(value: Any) -> None:
    with pytest.raises(BadValue, match=r"^flag is .*; valid: 0, false, no"):
        flag(value)


def test_ids() -> None:
    assert [identifier(value) for value in (7, 7.0, "7", "007", "+7")] == [7] * 5
    assert identifier("000017.jpg") == "000017.jpg"
    assert identifier("7.0") == "7.0"
    for value in (None, True, 7.5, "", [7], 10**39, float("nan"), "9" * 19):
        with pytest.raises(BadValue, match=r"^id is "):
            identifier(value)


def test_whole_numbers() -> None:
    assert [whole_number(value) for value in (64, 64.0, "64", "64.0", None, "")] == [64, 64, 64, 64, None, None]
    for value in ("wide", 64.5, float("inf"), 10**39, True, [64]):
        with pytest.raises(BadValue, match="is not a whole number"):
            whole_number(value)


def test_an_image_stays_in_the_datas_folder(tmp_path: Path) -> None:
    root = str(tmp_path)
    inside = f"{root}/images"
    assert image_path("a.jpg", inside, root, False) == f"{inside}/a.jpg"
    assert image_path("../other/a.jpg", inside, root, False) == f"{inside}/../other/a.jpg"
    assert image_path("sub\\a.jpg", inside, root, False) == f"{inside}/sub/a.jpg"
    assert image_path(f"{root}/a.jpg", inside, root, False) == f"{root}/a.jpg"
    for name in ("../../etc/a.jpg", "/etc/a.jpg", "..\\..\\a.jpg", f"{root}x/a.jpg"):
        with pytest.raises(BadValue, match=r"leaves the data's folder; data.allow_outside=true"):
            image_path(name, inside, root, False)
    assert image_path("/etc/a.jpg", inside, root, True) == "/etc/a.jpg"
    for name in ("http://host/a.jpg", "", "a\0.jpg", None, 7):
        with pytest.raises(BadValue):
            image_path(name, inside, root, True)


def test_texts_that_people_write() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert text_of("Käfer 数据\n".encode(encoding)) == "Käfer 数据\n"
    with pytest.raises(BadValue, match="neither UTF-8 nor UTF-16"):
        text_of("数据".encode("gbk"))
