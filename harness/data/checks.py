"""All annotations and images are checked once, before anything is trained.

A bad box in a training step is a crash or a NaN hours later, and by then nobody knows which file it came from.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from harness.core import limits
from harness.data.dataset import fit_boxes
from harness.data.images import BadImage, probe_image, read_image
from harness.data.records import AnnotationProblem, Box, DataError, ImageRecord, ObjectRecord, Parsed, list_problems

OnBad = Literal["error", "drop"]
# A box may stick out by this much (px) without a word: rounding, or 0-based coordinates read as 1-based.
ROUNDING = 1.0


@dataclass(slots=True)
class Memory:
    """Bytes left for decoded images; shared by the splits of a data set."""

    bytes_left: int

    def take(self, count: int) -> bool:
        """Reserve ``count`` bytes if there is room."""
        if count > self.bytes_left:
            return False
        self.bytes_left -= count
        return True


@dataclass(frozen=True, slots=True)
class Checked:
    """A split without its bad objects and images."""

    name: str
    images: tuple[ImageRecord, ...]
    problems: tuple[AnnotationProblem, ...]
    decoded: dict[int, Tensor]  # by position, the images that memory has room for


def check_split(parsed: Parsed, classes: Sequence[str], memory: Memory) -> Checked:
    """Check every image and object of a split. Images are decoded while they fit into ``memory``, else only probed."""
    valid_names = dict.fromkeys(classes)  # a set that keeps the order
    problems = [*parsed.problems, *_duplicates(parsed.images)]
    # Two images with one id cannot be told apart in the results, so none of a pair but the first is kept.
    seen: set[int | str] = set()
    images: list[ImageRecord] = []
    decoded: dict[int, Tensor] = {}
    for record in parsed.images:
        if record.source_id in seen:
            continue
        seen.add(record.source_id)
        try:
            (width, height), pixels = _open(record, memory)
        except BadImage as error:
            problems.append(AnnotationProblem(record.file, None, str(error)))
            continue
        if record.width and record.height and (record.width, record.height) != (width, height):
            written = f"{record.width} x {record.height}"
            what = f"size is written as {written}, but {record.file} has {width} x {height} px"
            problems.append(AnnotationProblem(record.annotation, None, what))
            continue
        objects, found = _check_objects(record, valid_names, width, height)
        problems += found
        if pixels is not None:
            decoded[len(images)] = pixels
        images.append(replace(record, width=width, height=height, objects=objects))
    return Checked(parsed.name, tuple(images), tuple(problems), decoded)


def refuse_bad_settings(on_bad: str, cache_bytes: int) -> None:
    """Refuses what is no policy and no size.

    Raises:
        ValueError: ``on_bad`` is not one of :data:`OnBad`, or ``cache_bytes`` is below 0.
    """
    limits.one_of("on_bad", on_bad, get_args(OnBad))
    limits.at_least("cache_bytes", cache_bytes, 0)


def apply_policy(problems: Sequence[AnnotationProblem], on_bad: OnBad) -> None:
    """Refuses the data for their problems, unless the policy goes on without them.

    Raises:
        DataError: the policy is "error" and there are problems; all of them are named.
    """
    if problems and on_bad == "error":
        raise DataError(f"bad data (on_bad=drop goes on without it): {list_problems(problems)}")


def _open(record: ImageRecord, memory: Memory) -> tuple[tuple[int, int], Tensor | None]:
    size = probe_image(record.path)
    pixels = read_image(record.path) if memory.take(3 * size[0] * size[1]) else None
    return size, pixels


def _duplicates(images: Sequence[ImageRecord]) -> Iterator[AnnotationProblem]:
    for source_id, count in Counter(image.source_id for image in images).items():
        if count > 1:
            file = next(image.annotation for image in images if image.source_id == source_id)
            what = f"image {source_id!r} is listed {count} times"
            yield AnnotationProblem(file, None, what, outcome="first one kept")


def _check_objects(
    record: ImageRecord, classes: Collection[str], width: int, height: int
) -> tuple[tuple[ObjectRecord, ...], list[AnnotationProblem]]:
    kept: list[ObjectRecord] = []
    problems: list[AnnotationProblem] = []
    for entry in record.objects:
        if entry.name not in classes:
            what, valid = f"unknown class {entry.name!r}", ", ".join(classes)
            problems.append(AnnotationProblem(record.annotation, entry.index, what, valid))
            continue
        shown = ", ".join(f"{value:g}" for value in entry.written)
        unusable = box_problem(entry.box, width, height)
        if unusable is not None:
            problems.append(AnnotationProblem(record.annotation, entry.index, f"{unusable} [{shown}]"))
            continue
        overhang = max(-entry.box.x1, -entry.box.y1, entry.box.x2 - width, entry.box.y2 - height)
        if overhang > ROUNDING:
            what = f"box reaches {overhang:g} px over the edge of the image of {width} x {height} px [{shown}]"
            problems.append(AnnotationProblem(record.annotation, entry.index, what, outcome="cut"))
            box = fit_boxes(np.array([entry.box]), width, height)[0].tolist()
            kept.append(replace(entry, box=Box(*box), area=None))
        else:
            kept.append(entry)
    return tuple(kept), problems


def box_problem(box: Box, width: int, height: int) -> str | None:
    """What makes a box unusable in an image of this size, or None."""
    if not all(math.isfinite(value) for value in box):
        return "box is not finite"
    if box.x2 < box.x1 or box.y2 < box.y1:
        return "box is inverted"
    if box.x2 == box.x1 or box.y2 == box.y1:
        return "box has zero area"
    if box.x1 >= width or box.y1 >= height or box.x2 <= 0 or box.y2 <= 0:
        return f"box lies outside the image of {width} x {height} px:"
    # Training sees float32: a box may vanish only there.
    fitted = fit_boxes(np.array([box]), width, height)[0]
    return "box has zero area" if fitted[2] <= fitted[0] or fitted[3] <= fitted[1] else None
