"""The names of images in a PASCAL VOC folder, as its files and its lists write them. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.data.folders import files_below

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_CLASS_COLUMN = re.compile(r"\s+-?[01]$")  # of VOC's lists by class: 1, 0 (difficult) or -1


def annotated_names(root: Path) -> list[str]:
    """Names of all annotation files in Annotations/ and below it: their paths without the suffix, sorted."""
    return [stem_of(file) for file in files_below(str(root / "Annotations")) if suffix_of(file) == ".xml"]


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
