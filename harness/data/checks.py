"""All annotations and images are checked once, before anything is trained.

A bad box in a training step is a crash or a NaN hours later, and by then nobody knows which file it came from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harness.data.dataset import fit_boxes
from harness.data.images import Orientation
from harness.data.outlines import BadSegmentation, encode
from harness.data.probing import Probe
from harness.data.records import (
    AnnotationProblem,
    Box,
    DataError,
    ImageRecord,
    ObjectRecord,
    Parsed,
    list_problems,
    shape_problem,
)

OnBad = Literal["error", "drop"]
# A box may stick out by this much (px) without a word: rounding, or 0-based coordinates read as 1-based.
ROUNDING = 1.0
# Resized to fit a detector's max_size (512 px in the smallest), a longer image would be less than two pixels wide.
MAX_ASPECT = 256
_SURELY_WIDE = 0.01  # px; float32 tells the sides of such a box apart in images of up to 80,000 px


@dataclass(frozen=True, slots=True)
class Checked:
    """A split without its bad objects and images, and without objects of classes that were not chosen."""

    name: str
    images: tuple[ImageRecord, ...]  # sizes are those of the pixels that are read; segmentations are encoded
    probes: tuple[Probe, ...]  # of the images
    problems: tuple[AnnotationProblem, ...]
    left_out: Counter[str]  # objects of classes that were not chosen, by class
    rotated: int  # images whose EXIF tag exchanges width and height
    bad_masks: tuple[str, ...]  # segmentations that cannot be used; their boxes can


def check_split(
    parsed: Parsed, classes: Sequence[str], probes: Sequence[Probe], orientation: Orientation = "stored"
) -> Checked:
    """Check every image and object of a split.

    Args:
        parsed: the split.
        classes: those chosen; objects of others are left out and counted.
        probes: of each of its images.
        orientation: whether images are read as stored or turned as their EXIF tag says.
    """
    chosen = frozenset(classes)
    problems = [*parsed.problems, *_duplicates(parsed.images)]
    # Two images with one id cannot be told apart in the results, so none of a pair but the first is kept.
    seen: set[int | str] = set()
    images: list[ImageRecord] = []
    kept_probes: list[Probe] = []
    left_out: Counter[str] = Counter()
    bad_masks: list[str] = []
    rotated = 0
    for record, probe in zip(parsed.images, probes, strict=True):
        if record.source_id in seen:
            continue
        seen.add(record.source_id)
        rotated += probe.orientation >= 5
        size, problem = _size(record, probe, orientation)
        if problem is not None:
            problems.append(problem)
            continue
        objects, found = _check_objects(record, chosen, *size, left_out, bad_masks)
        problems += found
        images.append(replace(record, width=size[0], height=size[1], objects=objects))
        kept_probes.append(probe)
    return Checked(parsed.name, tuple(images), tuple(kept_probes), tuple(problems), left_out, rotated, tuple(bad_masks))


def apply_policy(problems: Sequence[AnnotationProblem], on_bad: OnBad) -> None:
    """Refuses the data for their problems, unless the policy goes on without them.

    Raises:
        DataError: the policy is "error" and there are problems; the first of them are named.
    """
    if problems and on_bad == "error":
        raise DataError(f"bad data (on_bad=drop goes on without it): {list_problems(problems)}")


def _size(
    record: ImageRecord, probe: Probe, orientation: Orientation
) -> tuple[tuple[int, int], AnnotationProblem | None]:
    """(width, height) of the pixels that are read, or what makes the image unusable."""
    if probe.fault:
        return (0, 0), AnnotationProblem(record.file, None, probe.fault)
    written = (record.width, record.height)
    if not probe.width:  # not opened: the annotations are believed
        return written, None
    stored, upright = (probe.width, probe.height), probe.upright_size()
    size, other = (stored, upright) if orientation == "stored" else (upright, stored)
    if all(written) and written != size:
        what = f"size is written as {_px(written)}, but {record.file} has {_px(size)}"
        if written == other:
            how = "turned as its EXIF tag says" if orientation == "stored" else "as it is stored"
            what += f"; it fits {how}: data.orientation={'exif' if orientation == 'stored' else 'stored'}"
        return size, AnnotationProblem(record.annotation, None, what)
    if max(size) > MAX_ASPECT * min(size):
        what = f"image of {_px(size)}: resized for a detector, it would be narrower than a pixel"
        return size, AnnotationProblem(record.file, None, what, f"sides of at most {MAX_ASPECT} to 1")
    return size, None


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"


def _duplicates(images: Sequence[ImageRecord]) -> Iterator[AnnotationProblem]:
    first: Mapping[int | str, ImageRecord] = {image.source_id: image for image in reversed(images)}
    for source_id, count in Counter(image.source_id for image in images).items():
        if count > 1:
            what = f"image {source_id!r} is listed {count} times"
            yield AnnotationProblem(first[source_id].annotation, None, what, outcome="first one kept")


def _check_objects(
    record: ImageRecord,
    classes: Collection[str],
    width: int,
    height: int,
    left_out: Counter[str],
    bad_masks: list[str],
) -> tuple[tuple[ObjectRecord, ...], list[AnnotationProblem]]:
    kept: list[ObjectRecord] = []
    problems: list[AnnotationProblem] = []

    def problem(entry: ObjectRecord, what: str, valid: str = "", outcome: str = "dropped") -> None:
        unit = "line" if record.annotation.endswith(".txt") else "object"
        problems.append(AnnotationProblem(record.annotation, entry.index, what, valid, outcome, unit))

    for entry in record.objects:
        if entry.name not in classes:
            left_out[entry.name] += 1
            continue
        box = entry.box
        fits = box.x1 >= 0 and box.y1 >= 0 and box.x2 <= width and box.y2 <= height
        if not (fits and box.x2 - box.x1 > _SURELY_WIDE and box.y2 - box.y1 > _SURELY_WIDE):
            shown = ", ".join(f"{value:g}" for value in entry.written)
            unusable = box_problem(box, width, height)
            if unusable is not None:
                problem(entry, f"{unusable} [{shown}]")
                continue
            overhang = max(-box.x1, -box.y1, box.x2 - width, box.y2 - height)
            if overhang > ROUNDING:
                over = f"{overhang:g} px over the edge of the image of {width} x {height} px"
                problem(entry, f"box reaches {over} [{shown}]", outcome="cut")
                cut = fit_boxes(np.array([box]), width, height)[0].tolist()
                entry = replace(entry, box=Box(*cut), area=None)
        if entry.segmentation is not None:
            try:
                entry = replace(entry, segmentation=encode(entry.segmentation, height, width))
            except BadSegmentation as error:
                bad_masks.append(f"{record.annotation}, object {entry.index}: {error}")
                entry = replace(entry, segmentation=None)
        kept.append(entry)
    return tuple(kept), problems


def box_problem(box: Box, width: int, height: int) -> str | None:
    """What makes a box unusable in an image of this size, or None."""
    if (what := shape_problem(box)) is not None:
        return what
    if box.x1 >= width or box.y1 >= height or box.x2 <= 0 or box.y2 <= 0:
        return f"box lies outside the image of {width} x {height} px:"
    # Training sees float32: a box may vanish only there.
    fitted = fit_boxes(np.array([box]), width, height)[0]
    return "box has zero area" if fitted[2] <= fitted[0] or fitted[3] <= fitted[1] else None
