"""The sheet of mistakes: the worst validation images with every detection named as right or wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import DetectionDataset
from harness.evaluation.tide import LABELS, ErrorLabels, classify_errors
from harness.inspect import drawing
from harness.inspect.drawing import Pen

COLUMNS = 4
WIDTH = 3.6  # inches a picture
RIGHT = ("true_positive", "ignored")
ERRORS = {
    "true_positive": (Pen(drawing.GREEN, label="right"), ""),
    "classification": (Pen(drawing.PURPLE, label="C classification"), "C"),
    "localisation": (Pen(drawing.ORANGE, label="L localization"), "L"),
    "both": (Pen(drawing.SKY, label="B both"), "B"),
    "duplicate": (Pen(drawing.YELLOW, label="D duplicate"), "D"),
    "background": (Pen(drawing.VERMILLION, label="F background"), "F"),
    "ignored": (Pen(drawing.GRAY, "dotted", label="on an ignored region"), ""),
}
MISSED = Pen(drawing.BLUE, "dashed", 2.0, "M missed object")
FOUND = Pen(drawing.BLACK, "dotted", 1.0, "object")
assert set(ERRORS) == set(LABELS)


@dataclass(frozen=True)
class ImageErrors:
    """What was detected and missed in one image: places in the lists of detections and of objects."""

    detections: list[int]
    wrong: list[int]
    objects: list[int]
    missed: list[int]
    badness: float  # missed objects plus the scores of wrong detections


def by_image(
    annotations: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], found: ErrorLabels
) -> list[ImageErrors]:
    """The errors of every image, in the order of ``annotations["images"]``.

    Args:
        annotations: COCO-format ground truth.
        shown: COCO-format detections.
        found: their labels.
    """
    lost = set(found.missed.tolist())
    own: dict[Any, tuple[list[int], list[int]]] = {image["id"]: ([], []) for image in annotations["images"]}
    for k, row in enumerate(shown):
        own[row["image_id"]][0].append(k)
    for k, row in enumerate(annotations["annotations"]):
        own[row["image_id"]][1].append(k)
    errors = []
    for detections, objects in own.values():
        wrong = [k for k in detections if found.labels[k] not in RIGHT]
        missed = [k for k in objects if k in lost]
        badness = len(missed) + sum(float(shown[k]["score"]) for k in wrong)
        errors.append(ImageErrors(detections, wrong, objects, missed, badness))
    return errors


def errors_sheet(
    dataset: DetectionDataset,
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    path: Path,
    count: int,
    least_score: float,
) -> Path:
    """The ``count`` worst validation images, detections from ``least_score`` on in the color of their TIDE error.

    The worst image has most missed objects plus the scores of its wrong detections; among equals the first is shown.
    """
    shown = [row for row in detections if row["score"] >= least_score]
    found = classify_errors(annotations, shown)
    errors = by_image(annotations, shown, found)
    worst = np.argsort([-one.badness for one in errors], kind="stable")[:count]
    title = (
        f"the worst {len(worst)} of {len(errors)} images by missed objects plus scores of wrong detections;\n"
        f"detections with a score of at least {least_score:g}, errors as TIDE names them"
    )
    rows = -(-len(worst) // COLUMNS)
    sheet, axes = drawing.figure(rows, min(COLUMNS, len(worst)), title, width=WIDTH, height=3.9)
    for index, place in zip(worst.tolist(), axes.flat, strict=False):
        one = errors[index]
        drawing.show(place, dataset[index][0].permute(1, 2, 0).numpy() / 255, fade=0.2)
        left_out = _draw(place, one, annotations, shown, found)
        counts = f"{len(one.detections)} detections, {len(one.wrong)} wrong"
        counts += f", {len(one.missed)} of {len(one.objects)} objects missed"
        more = f"\n{left_out} labels found no room" if left_out else ""
        drawing.write_title(place, f"{annotations['images'][index]['file_name']}\n{counts}{more}")
    drawing.legend(sheet, [*(pen for pen, _ in ERRORS.values()), MISSED, FOUND], most=9)
    return drawing.save(sheet, path)


def _draw(
    place: Any,
    one: ImageErrors,
    annotations: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
    found: ErrorLabels,
) -> int:
    """Boxes, then labels, those of the most confident detections first; returns how many found no room."""
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    labels = drawing.Labels(place, WIDTH)
    ordered = sorted(one.detections, key=lambda k: -float(shown[k]["score"]))
    for k in one.objects:
        drawing.box(place, _corners(annotations["annotations"][k]), MISSED if k in one.missed else FOUND)
    for k in reversed(ordered):
        drawing.box(place, _corners(shown[k]), ERRORS[found.labels[k]][0])
    for k in ordered:
        pen, letter = ERRORS[found.labels[k]]
        name = drawing.plain(names[shown[k]["category_id"]], 16)
        labels.add(_corners(shown[k]), f"{letter} {name} {shown[k]['score']:.2f}".strip(), pen)
    for k in one.missed:
        row = annotations["annotations"][k]
        labels.add(_corners(row), f"M {drawing.plain(names[row['category_id']], 16)}", MISSED, below=True)
    return labels.left_out


def _corners(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    x, y, width, height = row["bbox"]
    return x, y, x + width, y + height
