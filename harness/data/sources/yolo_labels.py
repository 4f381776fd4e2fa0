"""One label file of a YOLO folder: a row for each object, class and center box or polygon in shares of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.data.records import AnnotationProblem, Box, ObjectRecord
from harness.data.values import BadValue, text_of

BOX_NUMBERS = 4  # cx cy w h
_OVERSHOOT = 0.01  # shares may leave 0..1 by so much: rounding, and boxes that stick out, which the check cuts
VALID_ROW = "class cx cy w h, or class x y x y x y ..., shares of the image's sides"


class LabelFile(NamedTuple):
    """What stands in one file."""

    objects: tuple[ObjectRecord, ...]
    problems: tuple[AnnotationProblem, ...]


def read_labels(path: Path, name: str, classes: Sequence[str], width: int, height: int) -> LabelFile:
    """Read one file. A missing or an empty one is an image without objects.

    Args:
        path: of the file.
        name: of the file in problems.
        classes: names by class number.
        width: of the image, px.
        height: of the image, px.
    """
    if not path.exists():
        return LabelFile((), ())
    try:
        if not path.is_file():
            raise BadValue("not a file")
        text = text_of(path.read_bytes())
    except (OSError, BadValue) as error:
        return LabelFile((), (AnnotationProblem(name, None, f"labels cannot be read ({error})"),))
    objects: list[ObjectRecord] = []
    problems: list[AnnotationProblem] = []
    seen: dict[tuple[float, ...], int] = {}
    for line, row in enumerate(text.splitlines(), start=1):
        if not row.strip():
            continue
        try:
            label, numbers = _row(row.split(), classes)
            first = seen.setdefault((label, *numbers), line)
            if first != line:
                what = f"the row is the same as line {first}"
                problems.append(AnnotationProblem(name, line, what, outcome="first one kept", unit="line"))
                continue
        except BadValue as error:
            problems.append(AnnotationProblem(name, line, str(error), unit="line"))
            continue
        objects.append(_object(line, classes[label], numbers, width, height))
    return LabelFile(tuple(objects), tuple(problems))


def _row(words: Sequence[str], classes: Sequence[str]) -> tuple[int, tuple[float, ...]]:
    try:
        label, *numbers = (float(word) for word in words)
    except ValueError:
        raise BadValue(f"row {' '.join(words)[:40]!r}; valid: {VALID_ROW}") from None
    if not (label.is_integer() and 0 <= label < len(classes)):
        raise BadValue(f"class {words[0]}; valid: 0 to {len(classes) - 1}, as data.yaml has {len(classes)} names")
    polygon = len(numbers) >= 6 and len(numbers) % 2 == 0
    if len(numbers) != BOX_NUMBERS and not polygon:
        raise BadValue(f"{len(numbers)} numbers after the class; valid: {VALID_ROW}")
    if not all(math.isfinite(number) for number in numbers):
        raise BadValue("a number is not finite")
    if not all(-_OVERSHOOT <= number <= 1 + _OVERSHOOT for number in numbers):
        worst = max(numbers, key=lambda number: abs(number - 0.5))
        raise BadValue(f"{worst:g} is no share of the image's side; valid: 0 to 1")
    return int(label), tuple(numbers)


def _object(line: int, name: str, numbers: tuple[float, ...], width: int, height: int) -> ObjectRecord:
    if len(numbers) == BOX_NUMBERS:
        cx, cy, w, h = numbers
        box = Box((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height)
        return ObjectRecord(line, box, numbers, name)
    xs, ys = [x * width for x in numbers[::2]], [y * height for y in numbers[1::2]]
    outline = [[value for point in zip(xs, ys, strict=True) for value in point]]
    return ObjectRecord(line, Box(min(xs), min(ys), max(xs), max(ys)), numbers, name, segmentation=outline)
