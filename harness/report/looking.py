"""What two methods do on the same images: confusion matrices, examples of errors, the images that differ most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.evaluation.tide import ERROR_NAMES, FALSE_POSITIVES, classify_errors
from harness.report.comparison import Section
from harness.report.frame import RunTable
from harness.report.images import Images, images_of
from harness.report.parts import Box, Gallery, Picture
from harness.report.predictions import Pair, Predictions, read_pair
from harness.report.reading import UnreadableError

_MOST_CLASSES = 6  # of which errors are shown
_AROUND = 0.7  # of a box's size on each side of it
_LEAST_SIDE = 56  # px of a cut-out


@dataclass(frozen=True)
class Look:
    """What is shown of the predictions of one context, and what could not be."""

    pair: Pair | None
    galleries: tuple[Gallery, ...]
    notes: tuple[str, ...]


def look_at(table: RunTable, section: Section, pictures: int) -> Look:
    """Compares the predictions of two methods of a section.

    Args:
        table: all runs.
        section: the context.
        pictures: how many images on which the methods differ are shown.
    """
    try:
        pair = read_pair(table, section)
    except UnreadableError as why:
        return Look(None, (), (f"No confusion matrix and no pictures: {why}.",))
    silent = [one.label for one in pair.runs if math.isnan(one.score)]
    if silent:
        told = f"No confusion matrix and no pictures: {', '.join(silent)} has no right detection with seed {pair.seed}."
        return Look(None, (), (told,))
    try:
        images = images_of(table.paths[pair.runs[0].run], str(table.frame["fingerprint"][pair.runs[0].run]))
    except UnreadableError as why:
        return Look(pair, (), (f"No pictures: {why}.",))
    found = [_differing(pair, images, pictures)] if len(pair.runs) > 1 else []
    shown = [gallery for gallery in (*found, _errors(pair, images)) if gallery.rows]
    return Look(pair, tuple(shown), ())


def _differing(pair: Pair, images: Images, most: int) -> Gallery:
    """Images on which one of the two methods makes the most errors more than the other, both ways in turn."""
    baseline, other = pair.runs
    difference = other.found.errors - baseline.found.errors
    better = [i for i in np.argsort(difference, kind="stable").tolist() if difference[i] < 0]
    worse = [i for i in np.argsort(-difference, kind="stable").tolist() if difference[i] > 0]
    half = max(most - min(len(worse), most // 2), 0)
    chosen = [*better[:half], *worse[: most - len(better[:half])]]
    rows = []
    for index in chosen:
        errors = [int(one.found.errors[index]) for one in pair.runs]
        ahead = other.label if difference[index] < 0 else baseline.label
        shown = [_whole(one, images, index, count) for one, count in zip(pair.runs, errors, strict=True)]
        rows.append((f"{_name(pair, index)}: {ahead} makes {abs(int(difference[index]))} errors fewer", shown))
    caption = (
        f"Images of the validation split on which {other.label} and {baseline.label} differ most in their number of "
        f"errors (false detections and missed objects at IoU 0.5, seed {pair.seed}). Each method is shown from the "
        f"score on at which its F1 is highest: {', '.join(f'{one.label} {one.score:.2f}' for one in pair.runs)}."
    )
    return Gallery("differing", "Images on which two methods differ most", rows, caption)


def _whole(one: Predictions, images: Images, index: int, errors: int) -> Picture:
    tables, found = one.found.tables, one.found
    boxes = [
        _box(tables.object_box[k], "missed" if found.missed[k] else "object", _class(one, tables.object_category[k]))
        for k in np.flatnonzero(tables.object_image == index).tolist()
    ]
    for k in np.flatnonzero(tables.detection_image == index).tolist():
        kind = "false" if found.false[k] else "found" if found.object[k] >= 0 else "ignored"
        told = f"{_class(one, tables.detection_category[k])} {tables.detection_score[k]:.2f}"
        boxes.append(_box(tables.detection_box[k], kind, told))
    return images.picture(tables.image_ids[index], f"{one.label}: {errors} errors", boxes)


def _errors(pair: Pair, images: Images) -> Gallery:
    """For the classes with the most errors, the surest mistake of each kind and the largest missed object."""
    one = pair.runs[-1]
    tables = one.found.tables
    kept = [one.detections[k] for k in one.found.kept.tolist()]
    labels = np.array(classify_errors(pair.annotations, kept).labels, dtype=object)
    false = np.bincount(tables.detection_category[one.found.false], minlength=len(pair.classes))
    missed = np.bincount(tables.object_category[one.found.missed], minlength=len(pair.classes))
    rows = []
    for category in np.argsort(-(false + missed), kind="stable").tolist()[:_MOST_CLASSES]:
        if false[category] + missed[category]:
            shown = list(_examples(one, images, category, labels))
            told = f"{pair.classes[category]}: {false[category]} false, {missed[category]} missed"
            rows.append((told, shown))
    caption = (
        f"Of {one.label} (seed {pair.seed}), by class: the false detection with the highest score of each kind that "
        "TIDE names, and the largest object that was missed."
    )
    return Gallery("errors", "Examples of errors", rows, caption)


def _examples(one: Predictions, images: Images, category: int, labels: np.ndarray) -> Iterator[Picture]:
    tables = one.found.tables
    for kind in FALSE_POSITIVES:
        of_kind = np.flatnonzero((labels == kind) & (tables.detection_category == category))
        if len(of_kind):
            k = int(of_kind[tables.detection_score[of_kind].argmax()])
            image = int(tables.detection_image[k])
            boxes = [_box(tables.detection_box[k], "false", f"{tables.detection_score[k]:.2f}")]
            title, taken = ERROR_NAMES[kind], one.found.object[k]
            if taken >= 0:
                boxes.insert(0, _box(tables.object_box[taken], "object", _class(one, tables.object_category[taken])))
                title += f": is {_class(one, tables.object_category[taken])}"
            yield images.picture(tables.image_ids[image], title, boxes, _region(tables.detection_box[k]))
    lost = np.flatnonzero(one.found.missed & (tables.object_category == category))
    if len(lost):
        k = int(lost[tables.object_area[lost].argmax()])
        boxes = [_box(tables.object_box[k], "missed", _class(one, category))]
        yield images.picture(
            tables.image_ids[int(tables.object_image[k])], "missed", boxes, _region(tables.object_box[k])
        )


def _region(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in box)
    side = max(width, height, _LEAST_SIDE / (1 + 2 * _AROUND)) * (1 + 2 * _AROUND)
    middle_x, middle_y = x + width / 2, y + height / 2
    return middle_x - side / 2, middle_y - side / 2, middle_x + side / 2, middle_y + side / 2


def _box(box: Sequence[float], kind: str, text: str) -> Box:
    x, y, width, height = (float(value) for value in box)
    return Box(x, y, width, height, kind, text)


def _class(one: Predictions, category: int) -> str:
    return one.tables.category_names[category]


def _name(pair: Pair, index: int) -> str:
    wanted = pair.runs[0].tables.image_ids[index]
    return next((str(row.get("file_name") or wanted) for row in pair.annotations["images"] if row["id"] == wanted), "")
