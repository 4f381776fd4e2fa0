"""What a source's parser hands over: images with their annotated objects as written, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


@dataclass(frozen=True, slots=True)
class AnnotationProblem:
    """Something wrong in the annotations or images of a data set."""

    file: str  # name of the annotation or image
    object: int | str | None  # index or id in it; None: the whole file
    what: str  # the problem in words
    valid: str = ""  # what would be right, where `what` does not say it
    outcome: str = "dropped"  # what on_bad=drop does

    def __str__(self) -> str:
        where = self.file if self.object is None else f"{self.file}, object {self.object}"
        return f"{where}: {self.what}" + (f" (valid: {self.valid})" if self.valid else "")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One split as read from its files: the images that could be read, and the problems met on the way."""

    name: str
    images: tuple[ImageRecord, ...]
    problems: tuple[AnnotationProblem, ...] = ()


class DataError(ValueError):
    """The data cannot be used. The message is one line, or one line and a list of problems."""


def list_problems(problems: Sequence[AnnotationProblem]) -> str:
    """One problem on the same line; several on a line each, the first MAX_LISTED of them and then a count."""
    if len(problems) == 1:
        return str(problems[0])
    lines = [f"\n  {problem}" for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"\n  and {len(problems) - MAX_LISTED} more")
    return f"{len(problems)} problems" + "".join(lines)
