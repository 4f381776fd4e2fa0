"""Checked data are kept as one file for all jobs: the same data, checked once, and never stale."""

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data import checked, columns_file, prepared
from harness.data.options import cache_folder
from harness.data.records import DataError
from harness.data.sources.voc import voc
from harness.data.splits import Splits
from tests.data.conftest import WriteVoc, voc_object, write_image

CAT = voc_object("cat", 11, 6, 30, 25)
BAD = voc_object("cat", 11, 6, 11, 25)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Grows by one with every check; any data set is worth preparing, in a cache of its own."""
    done: list[int] = []

    def counted(*arguments: Any) -> Any:
        done.append(1)
        return checked.check_data(*arguments)

    monkeypatch.setattr(prepared, "check_data", counted)
    monkeypatch.setattr(prepared, "WORTH_PREPARING", 0)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return done


@pytest.fixture
def root(write_voc: WriteVoc) -> Path:
    return write_voc({"a": CAT, "b": CAT + CAT, "c": ""}, {"train": ["a", "b"], "val": ["c"]})


def same(first: Splits, second: Splits) -> bool:
    return first.fingerprint == second.fingerprint and all(
        torch.equal(a.images[i], b.images[i]) and all(torch.equal(v, b.target(i)[k]) for k, v in a.target(i).items())
        for a, b in ((first.train, second.train), (first.val, second.val))
        for i in range(len(a))
    )


def test_the_second_start_reads_the_file(root: Path, checks: list[int], tmp_path: Path) -> None:
    first = voc(str(root))
    second = voc(str(root))
    assert len(checks) == 1
    assert same(first, second)
    assert (first.notes, first.classes) == (second.notes, second.classes)
    assert isinstance(second.train.annotations.boxes.base, np.memmap)
    assert not list((tmp_path / "cache").glob("*.lock"))
    moved = root.rename(tmp_path / "elsewhere")
    assert same(first, voc(str(moved)))
    assert len(checks) == 1


@pytest.mark.parametrize("change", ["image", "annotation", "list", "setting", "touched", "new image"])
def test_stale_data_are_noticed(root: Path, checks: list[int], change: str) -> None:
    first = voc(str(root))
    image = root / "JPEGImages" / "a.jpg"
    if change == "image":
        write_image(image, 60, 40, seed=9)
    elif change == "annotation":
        (root / "Annotations" / "a.xml").write_text(f"<annotation>{CAT + CAT}</annotation>")
    elif change == "list":
        (root / "ImageSets" / "Main" / "train.txt").write_text("b\na\n")
    elif change == "touched":
        os.utime(image, (1, 1))
    elif change == "new image":
        write_image(root / "JPEGImages" / "a.png", 60, 40, seed=9)
    again = voc(str(root), one_based=change != "setting")
    assert len(checks) == 2
    assert (again.fingerprint == first.fingerprint) == (change in ("touched", "new image"))


def test_another_version_of_the_check_is_noticed(
    root: Path, checks: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = voc(str(root))
    code = shutil.copytree(Path(prepared.__file__).parent, tmp_path / "code")
    assert prepared.code_digest(code) == prepared.code_digest()
    prepared.code_digest.cache_clear()
    with (code / "sources" / "voc_xml.py").open("a") as file:
        file.write("# read in another way\n")
    changed = prepared.code_digest(code)
    monkeypatch.setattr(prepared, "code_digest", lambda: changed)
    assert same(first, voc(str(root)))
    assert len(checks) == 2


def test_problems_are_told_every_time(write_voc: WriteVoc, checks: list[int]) -> None:
    root = write_voc({"a": CAT + BAD, "b": CAT}, {"train": ["a"], "val": ["b"]})
    for _ in range(2):
        with pytest.raises(DataError, match=r"a.xml, object 1: box has zero area"):
            voc(str(root))
    assert [str(problem) for problem in voc(str(root), on_bad="drop").problems] == [
        "a.xml, object 1: box has zero area [11, 6, 11, 25]"
    ]
    assert len(checks) == 1


def test_a_damaged_file_is_checked_again(root: Path, checks: list[int], caplog: pytest.LogCaptureFixture) -> None:
    first = voc(str(root))
    file = next(cache_folder(None).glob("*.columns"))
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    damages = [whole[: len(whole) // 2], b"", b"x" * 40]
    for position in rng.integers(0, len(whole), 12).tolist():
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(rng.integers(8))
        damages.append(bytes(flipped))
    for number, damaged in enumerate(damages, start=2):
        file.write_bytes(damaged)
        assert same(first, voc(str(root)))
        assert len(checks) == number
    assert "are checked again" in caplog.text


def test_an_unwritable_cache_is_said(root: Path, checks: list[int], caplog: pytest.LogCaptureFixture) -> None:
    (root / "file").write_text("")
    for _ in range(2):
        assert len(voc(str(root), cache_dir=str(root / "file")).train) == 2
    assert len(checks) == 2
    assert "cannot be written" in caplog.text


def test_jobs_that_start_at_once_check_once(root: Path, checks: list[int]) -> None:
    found: list[str] = []
    jobs = [threading.Thread(target=lambda: found.append(voc(str(root)).fingerprint)) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(checks) == 1


def test_columns_come_back(tmp_path: Path) -> None:
    arrays = {"a": np.arange(7, dtype=np.int16), "none": np.zeros((0, 4)), "flags": np.array([True, False])}
    columns_file.write(tmp_path / "f", arrays, {"names": ["x"]})
    found, beside = columns_file.read(tmp_path / "f")
    assert beside == {"names": ["x"]}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0] = 1
