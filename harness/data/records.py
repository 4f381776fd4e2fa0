"""The records that a source's parser returns: images with their objects as written, and the problems it met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.output import printable

MAX_LISTED = 10


class Box(NamedTuple):
    """Corners in px, continuous: the image's left edge is 0.0, its right edge is its width."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One annotated object."""

    index: int | str  # position (VOC) or annotation id (COCO) in the file; only names the object
    box: Box
    written: tuple[float, ...]  # its coordinates as they stand in the file; only name the object
    name: str
    crowd: bool = False  # a region with uncounted objects
    difficult: bool = False  # VOC's flag
    area: float | None = None  # the annotation's own, px^2 (COCO: of the mask); None: the box's
    segmentation: Any = None  # as in COCO: polygons [[x, y, ...], ...] in px or an RLE; None: no mask
    keypoints: tuple[tuple[float, float, int], ...] | None = None  # (x px, y px, visibility 0..2) each


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image and what is annotated in it."""

    id: int  # unique within its split
    source_id: int | str  # the annotation file's own
    file: str
    path: Path
    annotation: str  # the file to name in a problem
    width: int  # px, 0 where the annotation does not say
    height: int  # px, 0 where the annotation does not say
    objects: tuple[ObjectRecord, ...]
    negative: tuple[str, ...] = ()  # LVIS: classes that are known to be absent
    not_exhaustive: tuple[str, ...] = ()  # LVIS: classes of which some objects may be missing


@dataclass(frozen=True, slots=True)
class AnnotationProblem:
    """Something wrong in the annotations or images of a data set."""

    file: str  # name of the annotation or image
    object: int | str | None  # index or id in it; None: the whole file
    what: str  # the problem in words
    valid: str = ""  # what would be right, where `what` does not say it
    outcome: str = "dropped"  # what on_bad=drop does
    unit: str = "object"  # what `object` counts: object | line

    def __str__(self) -> str:
        where = self.file if self.object is None else f"{self.file}, {self.unit} {self.object}"
        return printable(f"{where}: {self.what}" + (f" (valid: {self.valid})" if self.valid else ""))


@dataclass(frozen=True, slots=True)
class Parsed:
    """One split as read from its files: the images that could be read, and the problems met on the way."""

    name: str
    images: tuple[ImageRecord, ...]
    problems: tuple[AnnotationProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedData:
    """Both splits as read from their files, and what they share."""

    train: Parsed
    val: Parsed
    classes: tuple[str, ...]  # in the order of their labels; objects of other classes are left out
    category_ids: tuple[int | str, ...] | None = None  # the annotation file's own; None: 1..K
    keypoint_names: tuple[str, ...] = ()  # of the P keypoints, where there are any
    frequencies: tuple[str, ...] = ()  # LVIS: r, c or f (rare, common, frequent) of each class
    notes: tuple[str, ...] = ()  # what was found or assumed, one line each
    listed_by: str = "data.classes"  # what says which classes there are, for messages


class DataError(ValueError):
    """The data cannot be used. The message is one line, or one line and a list of problems."""


def shape_problem(box: Box) -> str | None:
    """What makes a box unusable in any image, or None."""
    if not all(math.isfinite(value) for value in box):
        return "box is not finite"
    if box.x2 < box.x1 or box.y2 < box.y1:
        return "box is inverted"
    return "box has zero area" if box.x2 == box.x1 or box.y2 == box.y1 else None


def list_problems(problems: Sequence[AnnotationProblem]) -> str:
    """One problem on the same line; several on a line each, the first MAX_LISTED of them and then a count."""
    if len(problems) == 1:
        return str(problems[0])
    lines = [f"\n  {problem}" for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"\n  and {len(problems) - MAX_LISTED} more")
    return f"{len(problems)} problems" + "".join(lines)
