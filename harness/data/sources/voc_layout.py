"""The names of images in a PASCAL VOC folder, as its files and its lists write them. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.data.folders import files_below

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_CLASS_COLUMN = re.compile(r"\s+-?[01]$")  # of VOC's lists by class: 1, 0 (difficult) or -1


def annotation_files(root: Path) -> dict[str, str]:
    """Name of an image -> its annotation file in Annotations/ or below it, whatever the case of the suffix; sorted.

    The name is the file's path without the suffix. Where both ``a.xml`` and ``a.XML`` are there, it is the first.
    """
    files = [file for file in files_below(str(root / "Annotations")) if suffix_of(file) == ".xml"]
    found = {stem_of(file): file for file in files}
    return found | {stem_of(file): file for file in files if file.endswith(".xml")}


def split_lists(root: Path) -> dict[str, Path]:
    """Name of a split -> its list in ImageSets/Main, whatever the case of the suffix; sorted."""
    lists = root / "ImageSets" / "Main"
    files = sorted(lists.iterdir()) if lists.is_dir() else []
    return {file.stem: file for file in files if file.suffix.lower() == ".txt" and file.is_file()}


def split_list(root: Path, split: str) -> Path | None:
    """ImageSets/Main/<split>.txt, whatever the case of the suffix; None where there is none."""
    usual = root / "ImageSets" / "Main" / f"{split}.txt"
    return usual if usual.is_file() else split_lists(root).get(split)


def listed_name(line: str, known: set[str]) -> str:
    """The image that a line of a list names: as it stands, without quotes, path, suffix, or the column of a class."""
    plain = line.strip("\"'").strip()
    for written in (line, plain, _CLASS_COLUMN.sub("", line).strip("\"' "), line.split()[0].strip("\"'")):
        posix = written.replace("\\", "/")
        base = posix.rpartition("/")[2]
        for name in (posix, _without_suffix(posix), base, _without_suffix(base)):
            if name in known:
                return name
    return _without_suffix(_CLASS_COLUMN.sub("", plain))


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else name


def suffix_of(file: str) -> str:
    """``.jpg`` of ``a/b.c.JPG``."""
    return os.path.splitext(file)[1].lower()


def stem_of(file: str) -> str:
    """``a/b.c`` of ``a/b.c.JPG``."""
    return os.path.splitext(file)[0]
