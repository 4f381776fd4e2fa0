"""The sheets of the targets of every object and of the choices of every sampler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.inspect import drawing
from harness.inspect.capture import NEAR, Seen, Taken, of_object
from harness.inspect.drawing import Array, Pen
from harness.telemetry.bins import EDGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NEAR = 8  # negatives and ignored drawn an object: more hide the picture
OBJECT = Pen(drawing.BLACK, width=2.0, label="object")
KINDS = {
    "ignored": Pen(drawing.GRAY, "dotted", 1.4, "ignored", "s"),
    "negative": Pen(drawing.VERMILLION, "dashed", 1.0, "negative", "x"),
    "positive": Pen(drawing.BLUE, "solid", 1.4, "positive", "o"),
}
TRUTH = Pen(drawing.GREEN, "solid", 1.8, "positive: ground truth that joined", "o")
NEGATIVE_CENTERS = Pen(drawing.VERMILLION, "none", 1.0, "center of a negative", "x")
MOST_OBJECTS = 5  # of an image
FADE = 0.45  # of images under many boxes


def assignment_sheet(stage: str, images: Sequence[Seen], path: Path) -> Path:
    """One row per image, one picture per object: who is positive for it, and which of its neighbors are not."""
    columns = min(MOST_OBJECTS, max([len(seen.objects) for seen in images], default=0)) or 1
    near = f"IoU >= {NEAR:g}, the {MOST_NEAR} nearest drawn"
    if any(seen.points for seen in images):
        near = "points inside the object; a larger mark is a higher level of the pyramid"
    title = f"{stage}: candidates of each object, the first {columns} of an image\nnegative and ignored: {near}"
    sheet, axes = drawing.figure(len(images), columns, title)
    for row, seen in zip(axes, images, strict=True):
        if not len(seen.objects):
            drawing.show(row[0], seen.image, "no object: every candidate is negative or ignored")
        for number, place in zip(range(len(seen.objects)), row, strict=False):
            _draw_object(place, seen, number)
    joined = [TRUTH] if any(seen.is_truth.any() for seen in images) else []
    drawing.legend(sheet, [OBJECT, *reversed(KINDS.values()), *joined], points=any(seen.points for seen in images))
    return drawing.save(sheet, path)


def _draw_object(axes: Axes, seen: Seen, number: int) -> None:
    groups = of_object(seen, number)
    name = f"{seen.names[number]}, object {number + 1} of {len(seen.objects)}"
    counts = ", ".join(f"{len(groups[kind])} {kind}" for kind in ("positive", "negative", "ignored"))
    ious = seen.iou[number][groups["positive"]]
    best = f"\nIoU of positives {ious.min():.2f} to {ious.max():.2f}" if len(ious) else "\nno positive"
    if seen.points and len(ious):
        levels, numbers = np.unique(seen.level[groups["positive"]], return_counts=True)
        best = "\npositives: " + ", ".join(f"{n} on level {k}" for k, n in zip(levels, numbers, strict=True))
    if seen.crowd[number]:
        name, best = f"{name} (ignored region)", "\nnever matched"
    drawing.show(axes, seen.image, f"{name}\n{counts}{best}", fade=FADE)
    drawing.box(axes, seen.objects[number], OBJECT)
    for kind, pen in KINDS.items():
        shown = groups[kind] if kind == "positive" or seen.points else groups[kind][:MOST_NEAR]
        _draw_candidates(axes, seen, shown[~seen.is_truth[shown]], pen)
        _draw_candidates(axes, seen, shown[seen.is_truth[shown]], TRUTH)


def _draw_candidates(axes: Axes, seen: Seen, index: Array, pen: Pen, points: bool = False) -> None:
    boxes = seen.boxes[index]
    if seen.points or points:
        sizes = 10.0 + 14.0 * seen.level[index] if seen.points else 16.0
        drawing.dots(axes, (boxes[:, :2] + boxes[:, 2:]) / 2, pen, sizes)
        return
    for corners in boxes:
        drawing.box(axes, corners, pen)


def sampling_sheet(stage: str, images: Sequence[Seen], path: Path) -> Path:
    """One row per image, one column per sampler: what it took; below, the IoU of all negatives it took."""
    names = list(images[0].taken)
    title = f"{stage}: what was available, what the sampler took"
    title += ",\nand what others would have taken of the same candidates" if len(names) > 1 else ""
    sheet, axes = drawing.figure(len(images) + 1, len(names) + 1, title)
    for row, seen in zip(axes, images, strict=False):
        usable = np.flatnonzero(seen.gt_index >= -1)
        everything = Taken(usable, seen.gt_index[usable] >= 0)
        _draw_taken(row[0], seen, everything, "available", boxes=False)
        for place, name in zip(row[1:], names, strict=True):
            _draw_taken(place, seen, seen.taken[name], name, boxes=True)
    _draw_histograms(axes[-1], images, names)
    joined = [TRUTH] if any(seen.is_truth.any() for seen in images) else []
    drawing.legend(sheet, [KINDS["positive"], NEGATIVE_CENTERS, OBJECT, *joined], points=True)
    return drawing.save(sheet, path)


def _draw_taken(axes: Axes, seen: Seen, taken: Taken, name: str, boxes: bool) -> None:
    """``boxes``: draw them; of everything that was available only the centers can be seen."""
    negative = taken.index[~taken.positive]
    positive = taken.index[taken.positive]
    joined = positive[seen.is_truth[positive]]
    found = positive[~seen.is_truth[positive]]
    easy = f"\n{np.mean(seen.max_iou[negative] < 0.05):.0%} of negatives below IoU 0.05" if len(negative) else ""
    easy = easy.replace("IoU", "IoU (point's square)") if seen.points else easy
    truth = f" (+ {len(joined)} truth)" if len(joined) else ""
    title = f"{name}\n{len(found)} positive{truth}, {len(negative)} negative{easy}"
    drawing.show(axes, seen.image, title, fade=FADE)
    for corners in seen.objects:
        drawing.box(axes, corners, OBJECT)
    _draw_candidates(axes, seen, negative, KINDS["negative"], points=True)
    _draw_candidates(axes, seen, found, KINDS["positive"], points=not boxes)
    _draw_candidates(axes, seen, joined, TRUTH, points=not boxes)


def _draw_histograms(row: Any, images: Sequence[Seen], names: Sequence[str]) -> None:
    edges = np.concatenate([[0.0], EDGES["iou"].numpy(), [1.0]])
    available = np.concatenate([seen.max_iou[seen.gt_index == -1] for seen in images])
    values = {"available": available}
    for name in names:
        taken = [(seen, seen.taken[name]) for seen in images]
        values[name] = np.concatenate([seen.max_iou[t.index[~t.positive]] for seen, t in taken])
    compared = "IoU with the nearest object"
    if any(seen.points for seen in images):
        compared = "IoU of the square of one stride around a point with the nearest object"
    for place, (name, ious) in zip(row, values.items(), strict=True):
        place.set_axis_on()
        if len(ious):
            weights = np.full(len(ious), 1 / len(ious))
            place.hist(ious, bins=edges, weights=weights, color=drawing.VERMILLION, edgecolor="white")
        place.set(xlim=(0, 1), ylim=(0, 1), xlabel=compared)
        place.set_title(f"{drawing.plain(name)}: {len(ious)} negatives", fontsize=8, parse_math=False)
        place.tick_params(labelsize=7)
        place.xaxis.label.set_size(7)
        place.spines[["top", "right"]].set_visible(False)
    row[0].set_ylabel("share of negatives", fontsize=7)
