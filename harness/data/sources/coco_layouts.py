"""Where tools that export COCO files put them: the files of both splits found below one folder."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harness.data.records import DataError

# Names of a split, as COCO, Roboflow, CVAT, Label Studio and FiftyOne have them, most usual first.
NAMES = {
    "train": ("train2017", "train", "Train", "training", "train2014", "default"),
    "val": ("val2017", "val", "valid", "Validation", "validation", "val2014"),
}
# {} stands for such a name. COCO and CVAT; Roboflow; FiftyOne; Label Studio; plain.
PATTERNS = (
    "annotations/instances_{}.json",
    "{}/_annotations.coco.json",
    "{}/labels.json",
    "{}/result.json",
    "{}/annotations.json",
    "annotations/{}.json",
    "{}.json",
    "labels/{}.json",
)
SINGLE = ("result.json", "labels.json", "_annotations.coco.json", "annotations.json", "instances.json")
_PROBED = 5  # images that decide which folder they are in
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True, slots=True)
class CocoPaths:
    """The annotation file and the image folder of a split."""

    annotations: Path
    images: Path


def find(root: Path, split: str) -> Path | None:
    """The annotation file of ``train`` or ``val`` below ``root``, or None; a file without splits is that of train."""
    for pattern in PATTERNS:
        for name in NAMES[split]:
            path = root / pattern.format(name)
            if path.is_file():
                return path
    if split == "train":
        return next((root / name for name in SINGLE if (root / name).is_file()), None)
    return None


def image_folder(root: Path, annotations: Path) -> Path:
    """The folder that the file's image names start from: the first usual one that has the first images.

    Raises:
        DataError: none has them; the message names the first image.
    """
    names = list(islice(_names(annotations), _PROBED))
    tried = list(_folders(root, annotations))
    for folder in tried:
        if any(os.path.isfile(os.path.join(folder, name.replace("\\", "/"))) for name in names):
            return folder
    if not names:
        return annotations.parent
    shown = ", ".join(str(folder.relative_to(root)) for folder in tried if folder.is_relative_to(root))
    raise DataError(
        f"images of {annotations}: {names[0]} is in none of the usual folders ({shown}); "
        "valid: data.train_images and data.val_images, the folders that file names start from"
    )


def _folders(root: Path, annotations: Path) -> Iterator[Path]:
    beside = annotations.parent
    split = annotations.stem.removeprefix("instances_")
    inside = (beside, beside / "data", beside / "images", root / split, root / "images" / split, root / "images")
    usual = (*inside, root / "data", root)
    seen: set[Path] = set()
    for folder in usual:
        if folder.is_dir() and folder not in seen:
            seen.add(folder)
            yield folder


def _names(annotations: Path) -> Iterator[str]:
    """File names as they stand in the file, found without parsing it: of COCO's 448 MB, that would take seconds."""
    try:
        with annotations.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for found in _FILE_NAME.finditer(text):
                yield str(json.loads(found[1]))
    except ValueError:  # an empty file, or bytes that are no text: the parser says what is wrong
        return


def json_files(root: Path) -> Sequence[str]:
    """The JSON files in ``root`` and two levels below it, for a message."""
    found = [path for pattern in ("*.json", "*/*.json", "*/*/*.json") for path in root.glob(pattern)]
    return sorted(path.relative_to(root).as_posix() for path in found)[:12]
