"""COCO files: one JSON of images, annotations and categories for each split."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.records import AnnotationProblem, Box, DataError, ImageRecord, ObjectRecord, Parsed
from harness.data.splits import Splits, build_splits, split_by_ratio

Entry = Mapping[str, Any]


def coco(
    root: str,
    train_annotations: str = "annotations/instances_train2017.json",
    train_images: str = "train2017",
    val_annotations: str | None = "annotations/instances_val2017.json",
    val_images: str | None = "val2017",
    val_ratio: float | None = None,
    split_seed: int = 0,
    classes: Sequence[str] | None = None,
    on_bad: OnBad = "error",
    cache_bytes: int = 512 * 2**20,
    augment: Augment | None = None,
) -> Splits:
    """A data set in the format of COCO (Lin et al., ECCV 2014; cocodataset.org/#format-data), any ids.

    Image and category ids may be any distinct integers or strings; labels are 1..K and ``image_id`` is the file's own
    id if all are integers, else the position. Crowds are kept as regions to ignore, images without annotations as
    background.

    Args:
        root: folder that the other paths start from.
        train_annotations: JSON file of the training split.
        train_images: folder that its images' ``file_name`` starts from.
        val_annotations: JSON file of the validation split.
        val_images: folder of its images.
        val_ratio: above 0 and below 1: ``val_annotations`` is not read; that share of the training images is held out.
        split_seed: with which they are drawn.
        classes: names in the order of their labels; ``None`` takes all categories of the training file by ascending id.
        on_bad: ``error`` refuses a data set with problems, ``drop`` goes on without the bad objects and images.
        cache_bytes: bound of the decoded images kept in memory.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
        DataError: what is missing, empty, or, under the policy ``error``, wrong.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise DataError(f"root: {base} is not a folder")
    train = _File(base / train_annotations, base / train_images)
    if val_ratio is not None:
        ids = sorted({image["id"] for image in train.images}, key=lambda key: (str(type(key)), key))
        train_ids, val_ids = split_by_ratio(ids, val_ratio, split_seed)
        parsed = train.parse("train", set(train_ids)), train.parse("val", set(val_ids))
    elif val_annotations is None or val_images is None:
        raise DataError("val_annotations and val_images: both are needed where val_ratio is not given")
    else:
        parsed = train.parse("train"), _File(base / val_annotations, base / val_images).parse("val")
    names = list(train.categories.values()) if classes is None else [str(name) for name in classes]
    own_ids = {name: category_id for category_id, name in train.categories.items()}
    unknown = [name for name in names if name not in own_ids]
    if unknown:
        raise DataError(f"classes: {unknown[0]!r} is not a category; valid: {', '.join(own_ids)}")
    return build_splits(
        *parsed, names, category_ids=[own_ids[name] for name in names], on_bad=on_bad, cache_bytes=cache_bytes,
        augment=augment,
    )  # fmt: skip


class _File:
    """One annotation file. Entries that cannot even be attributed to an image are problems of the file as a whole."""

    def __init__(self, path: Path, folder: Path) -> None:
        content = _read_json(path)
        if not folder.is_dir():
            raise DataError(f"images of {path.name}: {folder} is not a folder")
        self.path, self.folder = path, folder
        self.problems: list[AnnotationProblem] = []
        self.categories = self._categories(content["categories"])
        self.images: list[Entry] = []
        for position, image in enumerate(content["images"]):
            if not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
                self._problem(f"images[{position}] has no id or no file_name")
            else:
                self.images.append(image)
        self.integer_ids = all(isinstance(image["id"], int) for image in self.images)
        self.annotations = self._by_image(content["annotations"])

    def parse(self, split: str, ids: set[int | str] | None = None) -> Parsed:
        """The images of the split, or those with the given ids, with their annotations."""
        records: list[ImageRecord] = []
        problems = list(self.problems) if split == "train" or ids is None else []  # of the file: named once
        for position, image in enumerate(self.images):
            if ids is not None and image["id"] not in ids:
                continue
            objects: list[ObjectRecord] = []
            for entry in self.annotations.get(image["id"], ()):
                parsed = self._object(entry, problems)
                if parsed is not None:
                    objects.append(parsed)
            number = image["id"] if self.integer_ids else position
            width, height = (side if isinstance(side := image.get(key), int) else 0 for key in ("width", "height"))
            path = self.folder / image["file_name"]
            records.append(
                ImageRecord(
                    number, image["id"], image["file_name"], path, self.path.name, width, height, tuple(objects)
                )
            )
        return Parsed(f"{split} split of {self.path.name}", tuple(records), tuple(problems))

    def _categories(self, entries: Sequence[Entry]) -> dict[int | str, str]:
        categories: dict[int | str, str] = {}
        for position, entry in enumerate(entries):
            key, name = entry.get("id"), entry.get("name")
            if not isinstance(key, int | str) or not isinstance(name, str):
                raise DataError(f"{self.path}: categories[{position}] has no id or no name")
            if key in categories or name in categories.values():
                raise DataError(f"{self.path}: category {name!r} with id {key!r}: the id or the name is there twice")
            categories[key] = name
        if not categories:
            raise DataError(f"{self.path}: no categories")
        return dict(sorted(categories.items(), key=lambda item: (str(type(item[0])), item[0])))

    def _by_image(self, entries: Sequence[Entry]) -> dict[int | str, list[Entry]]:
        """Annotations of each known image; the first of those with one id."""
        known = {image["id"] for image in self.images}
        seen: set[Any] = set()
        grouped: dict[int | str, list[Entry]] = defaultdict(list)
        for position, entry in enumerate(entries):
            key = entry.get("id")
            if not _is_id(key):
                self._problem(f"annotations[{position}] has no id")
            elif key in seen:
                self._problem("annotation id is there twice", key)
            elif not _is_id(entry.get("image_id")) or entry["image_id"] not in known:
                self._problem(f"unknown image_id {entry.get('image_id')!r}", key)
            else:
                grouped[entry["image_id"]].append(entry)
            if _is_id(key):
                seen.add(key)
        return dict(grouped)

    def _object(self, entry: Entry, problems: list[AnnotationProblem]) -> ObjectRecord | None:
        """The annotation as an object, or None after noting why not."""
        bbox, category, area = entry.get("bbox"), entry.get("category_id"), entry.get("area")
        if not _is_id(category) or category not in self.categories:
            valid = ", ".join(str(key) for key in self.categories)
            what = f"unknown class, category_id {category!r}"
            problems.append(AnnotationProblem(self.path.name, entry["id"], what, valid))
            return None
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
            problems.append(AnnotationProblem(self.path.name, entry["id"], f"bbox {bbox!r}", "[x, y, width, height]"))
            return None
        if area is not None and not (_is_number(area) and math.isfinite(area) and area >= 0):
            what = f"area {area!r}"
            problems.append(AnnotationProblem(self.path.name, entry["id"], what, "0 or more", "area of the box taken"))
            area = None
        x, y, width, height = (float(value) for value in bbox)
        return ObjectRecord(
            entry["id"], Box(x, y, x + width, y + height), (x, y, width, height), self.categories[category],
            crowd=bool(entry.get("iscrowd", 0)), area=None if area is None else float(area),
        )  # fmt: skip

    def _problem(self, what: str, index: int | str | None = None) -> None:
        self.problems.append(AnnotationProblem(self.path.name, index, what))


def _read_json(path: Path) -> dict[str, list[Entry]]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"annotations: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise DataError(f"annotations: {path} is not readable JSON ({error})") from None
    for key in ("images", "annotations", "categories"):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataError(f"annotations: {path} has no list of objects {key!r}; valid: a COCO instances file")
    return content


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
