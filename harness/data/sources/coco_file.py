"""One JSON file in COCO's format, as COCO and the tools that export it write it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data.outlines import polygon_box
from harness.data.records import AnnotationProblem, Box, DataError, ImageRecord, ObjectRecord, Parsed
from harness.data.values import BadValue, flag, identifier, image_path, whole_number

Entry = Mapping[str, Any]
Id = int | str


def read_json(path: Path, what: str = "annotations") -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is missing or no JSON.
    """
    if not path.is_file():
        there = sorted(str(file.relative_to(path.parent)) for file in path.parent.glob("*.json"))
        raise DataError(f"{what}: {path} is missing; there: {', '.join(there[:8]) or 'no .json file'}")
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        said = "its values are nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(f"{what}: {path} is not readable JSON ({said})") from None


FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")  # LVIS's lists of an image


class CocoFile:
    """One annotation file. Entries that cannot even be attributed to an image are problems of the file as a whole.

    Attributes:
        categories: name by id, by ascending id.
        images: (id, entry) of the usable ones.
        supercategories: the supercategory of each category, by id.
        keypoint_names: of the category that has them.
        frequencies: LVIS's group of each category, by id.
    """

    def __init__(self, path: Path, folder: Path, root: Path, *, allow_outside: bool = False) -> None:
        content = read_json(path)
        for key in ("images", "annotations", "categories"):
            entries = content.get(key) if isinstance(content, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise DataError(f"annotations: {path} has no list of objects {key!r}; valid: a COCO instances file")
        if not folder.is_dir():
            raise DataError(f"images of {path.name}: {folder} is not a folder")
        self.path, self.folder, self.root, self.allow_outside = path, folder, root, allow_outside
        self.problems: list[AnnotationProblem] = []
        self.supercategories: dict[Id, str] = {}
        self.keypoint_names: tuple[str, ...] = ()
        self.frequencies: dict[Id, str] = {}
        self.categories = self._categories(content.pop("categories"))
        self.images = list(self._images(content.pop("images")))
        self.integer_ids = all(isinstance(key, int) for key, _ in self.images)
        self.annotations = self._by_image(content.pop("annotations"))

    @property
    def used(self) -> set[Id]:
        """Ids of the categories that have an annotation."""
        return {
            key
            for entries in self.annotations.values()
            for entry in entries
            if (key := _maybe_id(entry.get("category_id"))) is not None
        }

    def parse(self, split: str, ids: Collection[Id] | None = None) -> Parsed:
        """The images of the split, or those with the given ids, with their annotations."""
        records: list[ImageRecord] = []
        problems = list(self.problems) if split == "train" or ids is None else []  # of the file: named once
        for position, (key, image) in enumerate(self.images):
            if ids is not None and key not in ids:
                continue
            try:
                file, path = self._file(image)
                width, height = (whole_number(image.get(side)) or 0 for side in ("width", "height"))
            except BadValue as error:
                problems.append(AnnotationProblem(self.path.name, None, f"image {key!r}: {error}"))
                continue
            found = (self._object(entry, problems) for entry in self.annotations.get(key, ()))
            objects = tuple(entry for entry in found if entry is not None)
            absent, partial = (self._names(image, which, problems) for which in FEDERATED)
            number = key if self.integer_ids else position
            assert isinstance(number, int)
            records.append(
                ImageRecord(
                    number, key, file, Path(path), self.path.name, width, height, objects, absent, partial
                )
            )  # fmt: skip
        return Parsed(f"{split} split of {self.path.name}", tuple(records), tuple(problems))

    def _file(self, image: Entry) -> tuple[str, str]:
        """The name of the image file as written, and its path; LVIS names it by the end of its URL only."""
        name = image.get("file_name")
        if name is None and isinstance(image.get("coco_url"), str):
            name = "/".join(image["coco_url"].rstrip("/").rsplit("/", 2)[1:])
        path = image_path(name, str(self.folder), str(self.root), self.allow_outside)
        return str(name), path

    def _images(self, entries: Sequence[Entry]) -> Iterator[tuple[Id, Entry]]:
        for position, image in enumerate(entries):
            try:
                key = identifier(image.get("id"))
            except BadValue as error:
                self._problem(f"images[{position}]: {error}")
                continue
            if not isinstance(image.get("file_name", image.get("coco_url")), str):
                self._problem(f"images[{position}] has no file_name")
                continue
            yield key, image

    def _categories(self, entries: Sequence[Entry]) -> dict[Id, str]:
        categories: dict[Id, str] = {}
        for position, entry in enumerate(entries):
            name = entry.get("name")
            key = _maybe_id(entry.get("id"))
            if isinstance(name, int | float) and not isinstance(name, bool):
                name = str(name)
            if key is None or not isinstance(name, str):
                raise DataError(f"{self.path}: categories[{position}] has no id or no name")
            if key in categories or name in categories.values():
                raise DataError(f"{self.path}: category {name!r} with id {key!r}: the id or the name is there twice")
            categories[key] = name
            self.supercategories[key] = str(entry.get("supercategory", ""))
            if isinstance(entry.get("keypoints"), list) and entry["keypoints"]:
                self.keypoint_names = tuple(map(str, entry["keypoints"]))
            if entry.get("frequency") in ("r", "c", "f"):
                self.frequencies[key] = entry["frequency"]
        if not categories:
            raise DataError(f"{self.path}: no categories")
        return dict(sorted(categories.items(), key=lambda item: (str(type(item[0])), item[0])))

    def _by_image(self, entries: Sequence[Entry]) -> dict[Id, list[Entry]]:
        """Annotations of each known image; the first of those with one id."""
        known = {key for key, _ in self.images}
        seen: set[Id] = set()
        grouped: dict[Id, list[Entry]] = defaultdict(list)
        for position, entry in enumerate(entries):
            key, image = _maybe_id(entry.get("id")), _maybe_id(entry.get("image_id"))
            if key is None:
                self._problem(f"annotations[{position}] has no id")
            elif key in seen:
                self._problem("annotation id is there twice", key)
            elif image is None or image not in known:
                self._problem(f"unknown image_id {entry.get('image_id')!r}", key)
            else:
                grouped[image].append(entry)
            if key is not None:
                seen.add(key)
        return dict(grouped)

    def _object(self, entry: Entry, problems: list[AnnotationProblem]) -> ObjectRecord | None:
        """The annotation as an object, or None after noting why not."""

        def problem(what: str, valid: str = "", outcome: str = "dropped") -> None:
            problems.append(AnnotationProblem(self.path.name, key, what, valid, outcome))

        key = identifier(entry["id"])
        bbox, area, segmentation = entry.get("bbox"), entry.get("area"), entry.get("segmentation") or None
        category = _maybe_id(entry.get("category_id"))
        if category is None or category not in self.categories:
            problem(f"unknown class, category_id {entry.get('category_id')!r}", _first(map(str, self.categories)))
            return None
        if not bbox and (around := polygon_box(segmentation)) is not None:
            bbox = [around[0], around[1], around[2] - around[0], around[3] - around[1]]
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
            problem(f"bbox {bbox!r}", "[x, y, width, height]")
            return None
        if area is not None and not (_is_number(area) and math.isfinite(area) and area >= 0):
            problem(f"area {area!r}", "0 or more", "area of the box taken")
            area = None
        try:
            crowd, keypoints = flag(entry.get("iscrowd")), self._keypoints(entry)
        except BadValue as error:
            problem(f"iscrowd: {error}" if str(error).startswith("flag") else str(error))
            return None
        x, y, width, height = (float(value) for value in bbox)
        return ObjectRecord(
            key, Box(x, y, x + width, y + height), (x, y, width, height), self.categories[category],
            crowd=crowd, area=None if area is None else float(area), segmentation=segmentation, keypoints=keypoints,
        )  # fmt: skip

    def _keypoints(self, entry: Entry) -> tuple[tuple[float, float, int], ...] | None:
        """(x, y, visibility) of each keypoint; of those that are not labeled, x and y are 0 as in COCO."""
        flat = entry.get("keypoints")
        if not self.keypoint_names or not flat:
            return None
        count = len(self.keypoint_names)
        numbers = isinstance(flat, list) and len(flat) == 3 * count and all(_is_number(value) for value in flat)
        if not numbers or not all(math.isfinite(value) for value in flat) or not set(flat[2::3]) <= {0, 1, 2}:
            valid = f"{count} times x, y and 0, 1 or 2"
            raise BadValue(f"keypoints {str(flat)[:40]}; valid: {valid}")
        return tuple((float(x), float(y), int(v)) for x, y, v in zip(flat[::3], flat[1::3], flat[2::3], strict=True))

    def _names(self, image: Entry, which: str, problems: list[AnnotationProblem]) -> tuple[str, ...]:
        """One of LVIS's lists of category ids of an image, as names."""
        ids = image.get(which) or []
        keys = [_maybe_id(value) for value in ids] if isinstance(ids, list) else [None]
        names = [None if key is None else self.categories.get(key) for key in keys]
        if None in names:
            what = f"image {image.get('id')!r}: {which} {str(ids)[:60]}"
            problems.append(AnnotationProblem(self.path.name, None, what, "a list of category ids"))
        return tuple(name for name in names if name is not None)

    def _problem(self, what: str, index: Id | None = None) -> None:
        self.problems.append(AnnotationProblem(self.path.name, index, what))


def _maybe_id(value: object) -> Id | None:
    if type(value) is int and -(2**62) < value < 2**62:  # nearly all are; the general way takes ten times as long
        return value
    try:
        return identifier(value)
    except BadValue:
        return None


def _first(names: Iterator[str], limit: int = 20) -> str:
    """A list for a message; one of a thousand names helps nobody."""
    known = list(names)
    return ", ".join(known[:limit]) + (f" and {len(known) - limit} more" if len(known) > limit else "")


def _is_number(value: object) -> bool:
    """A number that a float holds; NaN and infinity are numbers, which the check names as such."""
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)
