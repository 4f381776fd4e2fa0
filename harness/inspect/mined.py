"""The sheet of mined pictures: what rounds of offline mining found wrong on the training images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.dataset import DetectionDataset
from harness.inspect import drawing
from harness.inspect.drawing import Pen
from harness.training.mining import Missed, Row, corners, read_round

COLUMNS = 4
WIDTH = 3.6  # inches a picture
OBJECT = Pen(drawing.BLACK, "dotted", 1.0, "object")
NEW = Pen(drawing.VERMILLION, label="F false positive of this round")
STORED = Pen(drawing.ORANGE, "dotted", label="false positive of an earlier round")
MISSED = Pen(drawing.BLUE, "dashed", 2.0, "M missed object")
MISNAMED = Pen(drawing.PURPLE, "dashed", 2.0, "C found as another class")


def rounds_of(run: Path) -> list[tuple[list[Row], list[Missed]]]:
    """False positives and missed objects of every round in a run's folder, in order; empty for a run without mining."""
    files = sorted((run / "mined").glob("round_*.json"), key=lambda path: int(path.stem.removeprefix("round_")))
    return [read_round(path, number) for number, path in enumerate(files, start=1)]


def mined_sheet(
    dataset: DetectionDataset, rounds: list[tuple[list[Row], list[Missed]]], path: Path, count: int
) -> Path:
    """The ``count`` training images with most mistakes in the last round.

    Args:
        dataset: the training images.
        rounds: of :func:`rounds_of`, at least one.
        path: of the PNG.
        count: images on the sheet.
    """
    new, missed, stored = _by_image(rounds[-1][0]), _by_image(rounds[-1][1]), _by_image(_all(rounds[:-1]))
    mistakes = [len(new[image]) + len(missed[image]) for image in dataset.annotations.ids]
    worst = np.argsort([-number for number in mistakes], kind="stable")[:count]
    title = (
        f"round {len(rounds)} of offline mining, the {len(worst)} of {len(mistakes)} training images with most "
        "mistakes;\n"
        f"{sum(map(len, new.values()))} new false positives, {sum(map(len, missed.values()))} missed objects"
    )
    rows = -(-len(worst) // COLUMNS)
    sheet, axes = drawing.figure(rows, min(COLUMNS, len(worst)), title, width=WIDTH, height=3.9)
    for index, place in zip(worst.tolist(), axes.flat, strict=False):
        image = dataset.annotations.ids[index]
        drawing.show(place, dataset[index][0].permute(1, 2, 0).numpy() / 255, fade=0.2)
        left_out = _draw(place, dataset, index, new[image], missed[image], stored[image])
        more = f"\n{left_out} labels found no room" if left_out else ""
        counts = f"{len(new[image])} new false positives, {len(missed[image])} missed objects"
        drawing.write_title(place, f"{dataset.annotations.files[index] or image}\n{counts}{more}")
    drawing.legend(sheet, [NEW, STORED, MISSED, MISNAMED, OBJECT])
    return drawing.save(sheet, path)


def _draw(
    place: Any, dataset: DetectionDataset, index: int, new: list[Row], missed: list[Missed], stored: list[Row]
) -> int:
    """Boxes, then labels; returns how many labels found no room."""
    notes, rows = dataset.annotations, dataset.annotations.rows(index)
    labels = drawing.Labels(place, WIDTH)
    wrong = {entry["object"]: entry["found_as"] for entry in missed}
    for number, box in enumerate(notes.boxes[rows]):
        pen = OBJECT if number not in wrong else MISSED if wrong[number] is None else MISNAMED
        drawing.box(place, box, pen)
    for pen, found in ((STORED, stored), (NEW, new)):
        for box in corners(found):
            drawing.box(place, box, pen)
    for row, box in zip(new, corners(new), strict=True):
        labels.add(box, f"F {_name(dataset, row['category_id'])} {row['score']:.2f}", NEW)
    for number, found_as in wrong.items():
        box, own = notes.boxes[rows][number], _name(dataset, int(notes.labels[rows][number]))
        text = f"M {own}" if found_as is None else f"C {own} as {_name(dataset, found_as)}"
        labels.add(box, text, MISSED if found_as is None else MISNAMED, below=True)
    return labels.left_out


def _name(dataset: DetectionDataset, label: int) -> str:
    return drawing.plain(dataset.classes[label - 1], 16)


def _by_image(rows: list[Any]) -> defaultdict[int, list[Any]]:
    found: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["image_id"]].append(row)
    return found


def _all(rounds: list[tuple[list[Row], list[Missed]]]) -> list[Row]:
    return [row for rows, _ in rounds for row in rows]
