"""The data.yaml of a YOLO folder (Ultralytics): class names, and which images are for training and validation."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.data.folders import files_below
from harness.data.records import DataError
from harness.data.values import BadValue, text_of

SUFFIXES = (".bmp", ".dng", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp", ".pfm", ".heic")
_LABEL_SUFFIXES = (".txt", ".TXT", ".Txt")
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation")}


@dataclass(slots=True)
class YoloLayout:
    """What a data.yaml says.

    Attributes:
        file: the data.yaml.
        root: folder that the data may not leave.
        start: folder that the paths in it start from.
        names: of the classes, by number.
        notes: what was assumed.
        lists: text files of image names that were read.
    """

    file: Path
    root: Path
    start: Path
    names: tuple[str, ...]
    content: Mapping[str, Any]
    allow_outside: bool
    notes: list[str] = field(default_factory=list)
    lists: list[Path] = field(default_factory=list)

    @classmethod
    def read(cls, root: Path, *, allow_outside: bool) -> YoloLayout:
        """From ``root``, the data.yaml or the folder that holds it.

        Raises:
            DataError: there is none, it is no YAML, or its class names cannot be used.
        """
        file = _yaml_file(root)
        try:
            content = yaml.safe_load(text_of(file.read_bytes()))
        except RecursionError:
            raise DataError(f"{file}: its values are nested too deeply") from None
        except (OSError, yaml.YAMLError, BadValue, ValueError) as error:
            raise DataError(f"{file} is not readable YAML ({' '.join(str(error).split())[:120]})") from None
        if not isinstance(content, dict):
            raise DataError(f"{file}: no keys; valid: train, val and names, as in an Ultralytics data.yaml")
        layout = cls(file, file.parent, file.parent, _class_names(file, content), content, allow_outside)
        layout.start = layout._start()
        return layout

    def images(self, split: str) -> list[str]:
        """Paths of the images of ``train``, ``val`` or another key, in the order of the lists, sorted within a folder.

        Raises:
            DataError: the key is missing, a path does not exist or leaves the data's folder, or no image is there.
        """
        key, entries = self._entries(split)
        found: dict[str, None] = {}
        for entry in entries:
            found.update(dict.fromkeys(self._expand(entry, key)))
        if not found:
            raise DataError(f"{self.file}: {key} ({', '.join(entries)}) has no image")
        return list(found)

    def look(self, split: str) -> None:
        """Raises DataError where what the key of a split names does not exist; folders and lists are not read."""
        key, entries = self._entries(split)
        for entry in entries:
            self._existing(entry, key)

    def _entries(self, split: str) -> tuple[str, list[str]]:
        """The key of a split and what it names."""
        key = next((key for key in _SPLITS.get(split, (split,)) if self.content.get(key)), None)
        if key is None:
            raise DataError(f"{self.file}: no {split!r}; valid: a folder, a list of images or a pattern")
        given = self.content[key]
        entries = given if isinstance(given, list) else [given]
        for entry in entries:
            if not isinstance(entry, str):
                raise DataError(f"{self.file}: {key} has {entry!r}; valid: a folder, a list of images or a pattern")
        return key, entries

    def _expand(self, entry: str, key: str) -> Iterator[str]:
        for path in self._existing(entry, key):
            if os.path.isdir(path):
                yield from (os.path.join(path, image) for image in files_below(path) if _is_image(image))
            elif path.lower().endswith(".txt"):
                yield from self._listed(Path(path))
            else:
                yield path

    def _existing(self, entry: str, key: str) -> list[str]:
        """The file or folder that an entry names, or the images that match it as a pattern."""
        written = entry.replace("\\", "/")
        found = _matching(self.start, written)
        if found is None:
            # Roboflow writes ../train/images for a folder that lies beside data.yaml.
            inside = written
            while inside.startswith("../"):
                inside = inside[3:]
            found = None if inside == written else _matching(self.file.parent, inside)
            if found is None:
                path = os.path.normpath(os.path.join(self.start, written))
                raise DataError(f"{self.file}: {key}: {path} does not exist; valid: a folder, a list or a pattern")
            self.notes.append(f"{key}: {entry} does not exist, {inside} beside {self.file.name} is taken")
        return [self._allowed(path, entry) for path in found]

    def _listed(self, file: Path) -> Iterator[str]:
        self.lists.append(file)
        try:
            lines = text_of(file.read_bytes()).splitlines()
        except BadValue as error:
            raise DataError(f"{file} {error}") from None
        for line in (line.strip().strip("\"'").replace("\\", "/") for line in lines):
            if line:
                # "./" starts from the list's own folder, everything else from the data's.
                start = file.parent if line.startswith("./") else self.start
                yield self._allowed(os.path.normpath(os.path.join(start, line)), line)

    def _start(self) -> Path:
        given = self.content.get("path")
        if given is None or given == "":
            return self.file.parent
        if not isinstance(given, str):
            raise DataError(f"{self.file}: path is {given!r}; valid: a folder")
        path = Path(os.path.normpath(self.file.parent / Path(given.replace("\\", "/")).expanduser()))
        if path.is_dir():
            return Path(self._allowed(str(path), given))
        self.notes.append(f"path: {given} does not exist, the folder of {self.file.name} is taken")
        return self.file.parent

    def _allowed(self, path: str, written: str) -> str:
        root = os.path.abspath(self.root)
        if not self.allow_outside and os.path.commonpath([root, os.path.abspath(path)]) != root:
            raise DataError(f"{written!r} leaves the data's folder; data.allow_outside=true reads it all the same")
        return path


def label_file(image: str) -> Path:
    """The label file of an image: labels/ in the place of the last images/ of its path, else beside it.

    It may be called ``a.TXT``; where there is none, the path is that of ``a.txt``.
    """
    before, separator, after = image.rpartition(f"{os.sep}images{os.sep}")
    place = f"{before}{os.sep}labels{os.sep}{after}" if separator else image
    stem = os.path.splitext(place)[0]
    return Path(next((stem + suffix for suffix in _LABEL_SUFFIXES if os.path.exists(stem + suffix)), f"{stem}.txt"))


def _yaml_file(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"root: {root} is not there; valid: a folder with data.yaml, or that file")
    files = sorted(file for file in root.iterdir() if file.suffix.lower() in (".yaml", ".yml"))
    named = [file for file in files if file.stem in ("data", "dataset")]
    if len(named or files) == 1:
        return (named or files)[0]
    there = ", ".join(file.name for file in files) or "no .yaml file"
    raise DataError(f"root: {root} has {there}; valid: one data.yaml, or data.root=FILE")


def _class_names(file: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names, number = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{file}: names must number the classes 0, 1, 2, ...; there: {list(names)[:8]}")
        names = [names[index] for index in range(len(names))]
    if names is None and isinstance(number, int) and 0 < number < 100_000:
        names = [f"class{index}" for index in range(number)]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: no names; valid: a list of class names, or 0: name, 1: name, ...")
    if number is not None and number != len(names):
        raise DataError(f"{file}: nc is {number!r}, but there are {len(names)} names")
    texts = tuple(str(name) for name in names)
    if twice := next((name for index, name in enumerate(texts) if name in texts[:index]), None):
        raise DataError(f"{file}: the name {twice!r} is there twice")
    return texts


def _matching(start: Path, entry: str) -> list[str] | None:
    """What is called like the entry, else the images that match it as a pattern; None where nothing does.

    The signs of a pattern mean nothing in the folder that it starts from, which may be called ``set [1]``.
    """
    path = os.path.normpath(os.path.join(start, entry))
    if os.path.exists(path) or (os.path.islink(path) and _is_image(path)):  # a broken link is a missing image
        return [path]
    pattern = os.path.normpath(os.path.join(glob.escape(str(start)), entry))
    found = sorted(glob.glob(pattern, recursive=True))
    return [name for name in found if _is_image(name)] if found else None


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES and not os.path.basename(path).startswith(".")
