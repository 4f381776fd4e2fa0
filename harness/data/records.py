"""What a source's parser hands over: images with their annotated objects as written, and what is wrong with them."""

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
    """One annotated object.

    `index` is its position (VOC) or annotation id (COCO) in the file, `written` its coordinates as they stand there;
    both only serve to name it. `crowd`: a region with uncounted objects. `difficult`: VOC's flag. `area`: the
    annotation's own area in px^2 (COCO: of the mask), None where the box's is meant.
    """

    index: int | str
    box: Box
    written: tuple[float, ...]
    name: str
    crowd: bool = False
    difficult: bool = False
    area: float | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image. `id` is unique within its split, `source_id` is the annotation file's own; `annotation` is the file
    to name in a problem; width and height are 0 where the annotation does not say."""

    id: int
    source_id: int | str
    file: str
    path: Path
    annotation: str
    width: int
    height: int
    objects: tuple[ObjectRecord, ...]


@dataclass(frozen=True, slots=True)
class AnnotationProblem:
    """Something wrong in the annotations or images of a data set.

    file: name of the annotation or image; object: the object's index or id in it, None if it is the whole file;
    what: the problem in words; valid: what would be right, "" where `what` says it; outcome: what `on_bad=drop` does.
    """

    file: str
    object: int | str | None
    what: str
    valid: str = ""
    outcome: str = "dropped"

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
