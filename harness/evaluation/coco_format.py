"""COCO-format annotations and detections, checked once and turned into columns.

Everything that scores detections starts from `CocoTables`: ids become dense indices in the order in which the COCO
code walks them (sorted), so ties between equal scores fall the same way, whatever the ids look like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core import limits
from harness.data.values import BadValue, flag, identifier

Row = Mapping[str, Any]
Id = int | str
NO_NUMBERS = frozenset({str, bool})  # numpy would read '4' and true as numbers


@dataclass(frozen=True)
class CocoTables:
    """G objects and D detections on I images in K categories, both in the order of the input.

    Boxes are (x, y, width, height) in pixels, continuous coordinates.
    """

    image_ids: tuple[Id, ...]  # I, sorted; an image index points in here
    category_ids: tuple[Id, ...]  # K, sorted; a category index points in here
    category_names: tuple[str, ...]  # K
    object_image: NDArray[np.int64]  # (G,) image index
    object_category: NDArray[np.int64]  # (G,) category index
    object_box: NDArray[np.float64]  # (G, 4)
    object_area: NDArray[np.float64]  # (G,) the annotation's `area`, which decides its size range
    object_crowd: NDArray[np.bool_]  # (G,) `iscrowd`
    object_difficult: NDArray[np.bool_]  # (G,) `difficult` or `ignore`; only VOC AP reads it, as the COCO code
    detection_image: NDArray[np.int64]  # (D,)
    detection_category: NDArray[np.int64]  # (D,)
    detection_box: NDArray[np.float64]  # (D, 4)
    detection_score: NDArray[np.float64]  # (D,)
    notes: tuple[str, ...] = ()  # what was assumed about the input, in words

    @cached_property
    def detection_rank(self) -> NDArray[np.int64]:
        """(D,) place of each detection in its image and category by descending score, from 0; ties in input order."""
        group = self.detection_image * max(1, len(self.category_ids)) + self.detection_category
        order = np.lexsort((-self.detection_score, group))
        ordered = group[order]
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered, "left")
        return rank

    def with_detections(self, kept: NDArray[np.bool_]) -> CocoTables:
        """The same objects with the detections in ``kept`` (D,)."""
        return replace(
            self,
            detection_image=self.detection_image[kept],
            detection_category=self.detection_category[kept],
            detection_box=self.detection_box[kept],
            detection_score=self.detection_score[kept],
        )


def read_tables(annotations: Row, detections: Sequence[Row], lenient: bool = False) -> CocoTables:
    """Check COCO-format input and turn it into columns.

    `annotations` has the lists `images` (id), `annotations` (image_id, category_id, bbox; area, iscrowd, difficult
    and ignore where known) and `categories` (id; name where known). `detections` is a COCO results list (image_id,
    category_id, bbox, score). Ids are integers or texts, and a text of a whole number is that number; 0 is an id like
    any other. An annotation without `area` takes its box's, and a note says so. `lenient` leaves out detections of
    unknown images and categories, as the COCO code does, and a note counts them.

    Raises ValueError with one line that names the list, the index and the fault.
    """
    if not isinstance(annotations, Mapping):
        raise ValueError(f"annotations: an object with images, annotations and categories, not {_kind(annotations)}")
    images, objects, categories = (_rows(annotations, key) for key in ("images", "annotations", "categories"))
    if isinstance(detections, Mapping | str) or not isinstance(detections, Sequence):
        raise ValueError(f"detections: a list of results, not {_kind(detections)}")
    notes: list[str] = []
    image_index, category_index = index_of(images, "images"), index_of(categories, "categories")
    names = {
        identifier(row["id"]): limits.unicode_text(f"categories[{position}].name", str(row.get("name", row["id"])))
        for position, row in enumerate(categories)
    }
    _unique_ids(objects)
    object_image = lookup(objects, "image_id", image_index, "annotations", "images", notes)
    object_category = lookup(objects, "category_id", category_index, "annotations", "categories", notes)
    object_box = _boxes(objects, "annotations")
    object_area = _areas(objects, object_box, notes)
    if lenient:
        detections = known_only(detections, image_index, category_index, notes)
    return CocoTables(
        image_ids=tuple(image_index),
        category_ids=tuple(category_index),
        category_names=tuple(names[key] for key in category_index),
        object_image=object_image,
        object_category=object_category,
        object_box=object_box,
        object_area=object_area,
        object_crowd=flags(objects, "iscrowd"),
        object_difficult=flags(objects, "difficult") | flags(objects, "ignore"),
        detection_image=lookup(detections, "image_id", image_index, "detections", "images", notes),
        detection_category=lookup(detections, "category_id", category_index, "detections", "categories", notes),
        detection_box=_boxes(detections, "detections"),
        detection_score=numbers(detections, "score", "detections"),
        notes=tuple(dict.fromkeys(notes)),
    )


def detection_list(document: Any) -> list[Row]:
    """The results in a parsed detections file: a list, or an object that holds it as `annotations` or `predictions`."""
    if isinstance(document, list):
        return document
    if isinstance(document, Mapping):
        for key in ("annotations", "predictions"):
            if isinstance(document.get(key), list):
                found: list[Row] = document[key]
                return found
    raise ValueError("detections: a list of results, or an object with the list under 'annotations' or 'predictions'")


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), type(value).__name__)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _rows(annotations: Row, key: str) -> list[Row]:
    if key not in annotations:
        raise ValueError(
            f"annotations: key '{key}' is missing (found: {', '.join(map(str, annotations)) or 'nothing'})"
        )
    rows = annotations[key]
    if not isinstance(rows, list):
        raise ValueError(f"annotations: '{key}' must be a list, not {_kind(rows)}")
    return rows


def _column(rows: Sequence[Row], key: str, where: str) -> list[Any]:
    try:
        return [row[key] for row in rows]
    except (KeyError, TypeError, IndexError):
        for i, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise ValueError(f"{where}[{i}]: an object was expected, not {_kind(row)}") from None
            if key not in row:
                raise ValueError(f"{where}[{i}]: key '{key}' is missing") from None
        raise


def index_of(rows: Sequence[Row], where: str) -> dict[Id, int]:
    """Dense index by id, in sorted order: numpy's unique sorts in the COCO code, and the order decides ties."""
    seen: set[Id] = set()
    for i, written in enumerate(_column(rows, "id", where)):
        try:
            key = identifier(written)
        except BadValue as error:
            raise ValueError(f"{where}[{i}]: {error}") from None
        if key in seen:
            raise ValueError(f"{where}[{i}]: id {key!r} is given twice")
        seen.add(key)
    return {key: i for i, key in enumerate(sorted(seen, key=lambda key: (isinstance(key, str), key)))}


def _unique_ids(objects: Sequence[Row]) -> None:
    """A repeated annotation id makes the COCO code read one object twice and the other never."""
    seen: set[Any] = set()
    for i, key in enumerate(row.get("id") if isinstance(row, Mapping) else None for row in objects):
        if key is not None:
            if key in seen:
                raise ValueError(f"annotations[{i}]: id {key!r} is given twice")
            seen.add(key)


def lookup(
    rows: Sequence[Row], key: str, index: Mapping[Id, int], where: str, known: str, notes: list[str]
) -> NDArray[np.int64]:
    """(n,) the dense index of each row's ``key``; notes gain a line where texts had to be read as numbers."""
    values = _column(rows, key, where)
    try:
        if bool in set(map(type, values)):  # true finds the id 1
            raise KeyError
        return np.fromiter(map(index.__getitem__, values), np.int64, len(values))
    except (KeyError, TypeError):
        pass
    found = [_position(value, index) for value in values]
    if -1 in found:
        i = found.index(-1)
        more = f" (nor are {found.count(-1) - 1} more)" if found.count(-1) > 1 else ""
        hint = "; --lenient leaves them out" if where == "detections" else ""
        raise ValueError(f"{where}[{i}]: {key} {values[i]!r} is not in the annotations' {known}{more}{hint}")
    notes.append(f"{where}: {key} is a text of a whole number somewhere and counts as that number")
    return np.array(found, np.int64)


def _position(value: object, index: Mapping[Id, int]) -> int:
    """The dense index of an id in any writing, -1 where it is unknown or no id."""
    try:
        return index.get(identifier(value), -1)
    except BadValue:
        return -1


def known_only(
    detections: Sequence[Row], image_index: Mapping[Id, int], category_index: Mapping[Id, int], notes: list[str]
) -> Sequence[Row]:
    """The detections of known images and categories; notes gain a line that counts the others."""
    images = [_position(value, image_index) for value in _column(detections, "image_id", "detections")]
    categories = [_position(value, category_index) for value in _column(detections, "category_id", "detections")]
    strange = {"image": images.count(-1), "category": categories.count(-1)}
    for kind, count in strange.items():
        if count:
            notes.append(f"{count} of {len(detections)} detections are of no known {kind} and are left out")
    if not any(strange.values()):
        return detections
    return [row for row, i, k in zip(detections, images, categories, strict=True) if i >= 0 and k >= 0]


def _boxes(rows: Sequence[Row], where: str) -> NDArray[np.float64]:
    values = _column(rows, "bbox", where)
    try:
        if any(len(value) != 4 for value in values):
            raise TypeError
        if not NO_NUMBERS.isdisjoint(map(type, chain.from_iterable(values))):
            raise TypeError
        flat = np.fromiter(chain.from_iterable(values), np.float64, 4 * len(values))
    except (TypeError, ValueError, OverflowError):
        for i, value in enumerate(values):
            if not isinstance(value, Sequence) or len(value) != 4 or not all(map(_is_number, value)):
                raise ValueError(f"{where}[{i}]: bbox must be four numbers [x, y, w, h], not {value!r}") from None
        raise
    boxes = flat.reshape(-1, 4)
    bad = ~np.isfinite(boxes).all(1) | (boxes[:, 2:] < 0).any(1)
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(f"{where}[{i}]: bbox must be finite with width and height >= 0, not {values[i]!r}")
    return boxes


def numbers(rows: Sequence[Row], key: str, where: str, at: Sequence[int] | None = None) -> NDArray[np.float64]:
    """(n,) finite numbers; ``at`` are the rows' places in the list, where they are not 0, 1, 2, ...

    Raises ValueError for the first that is none; texts and truth values are not.
    """
    values = _column(rows, key, where)
    try:
        if not NO_NUMBERS.isdisjoint(map(type, values)):
            raise TypeError
        found = np.fromiter(values, np.float64, len(values))
        bad = ~np.isfinite(found)
    except (TypeError, ValueError, OverflowError):
        bad = np.array([not _is_number(value) or not abs(value) < 1e300 for value in values])
        found = np.zeros(len(values))
    if bad.any():
        i = int(bad.argmax())
        place = i if at is None else at[i]
        raise ValueError(f"{where}[{place}]: {key} must be a finite number, not {values[i]!r}")
    return found


def _areas(objects: Sequence[Row], boxes: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    given = [i for i, row in enumerate(objects) if "area" in row]
    areas = boxes[:, 2] * boxes[:, 3]
    if given:
        areas[given] = numbers([objects[i] for i in given], "area", "annotations", given)
    if missing := len(objects) - len(given):
        notes.append(f"{missing} of {len(objects)} annotations have no area: their box's area is taken")
    return areas


def flags(objects: Sequence[Row], key: str) -> NDArray[np.bool_]:
    """(n,) a truth value of each annotation, however tools write it; False where it is missing.

    Raises ValueError for the first that is none.
    """
    found = np.zeros(len(objects), bool)
    for i, row in enumerate(objects):
        value = row.get(key, 0)
        if value in (0, 1) and type(value) is int:
            found[i] = value
            continue
        try:
            found[i] = flag(value)
        except BadValue as error:
            raise ValueError(f"annotations[{i}]: {key}: {error}") from None
    return found
