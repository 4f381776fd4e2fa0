"""The sheets: data, targets of every object, choices of every sampler, mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.dataset import DatasetItem, DetectionDataset
from harness.evaluation.tide import LABELS, classify_errors
from harness.inspect import drawing
from harness.inspect.capture import NEAR, Seen, Taken, of_object
from harness.inspect.drawing import Array, Pen
from harness.telemetry.bins import EDGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 4
MOST_NEAR = 8  # negatives and ignored drawn an object: more hide the picture
OBJECT = Pen(drawing.BLACK, width=2.0, label="object")
KINDS = {
    "ignored": Pen(drawing.GREY, "dotted", 1.4, "ignored", "s"),
    "negative": Pen(drawing.VERMILLION, "dashed", 1.0, "negative", "x"),
    "positive": Pen(drawing.BLUE, "solid", 1.4, "positive", "o"),
}
TRUTH = Pen(drawing.GREEN, "solid", 1.8, "positive: ground truth that joined", "o")
NEGATIVE_CENTRES = Pen(drawing.VERMILLION, "none", 1.0, "centre of a negative", "x")
MOST_OBJECTS = 5  # of an image
FADE = 0.45  # of images under many boxes
ERRORS = {
    "true_positive": (Pen(drawing.GREEN, label="right"), ""),
    "classification": (Pen(drawing.PURPLE, label="C classification"), "C"),
    "localisation": (Pen(drawing.ORANGE, label="L localisation"), "L"),
    "both": (Pen(drawing.SKY, label="B both"), "B"),
    "duplicate": (Pen(drawing.YELLOW, label="D duplicate"), "D"),
    "background": (Pen(drawing.VERMILLION, label="F background"), "F"),
    "ignored": (Pen(drawing.GREY, "dotted", label="on an ignored region"), ""),
}
MISSED = Pen(drawing.BLUE, "dashed", 2.0, "M missed object")
FOUND = Pen(drawing.BLACK, "dotted", 1.0, "object")


def data_sheet(samples: Sequence[DatasetItem], classes: Sequence[str], path: Path) -> Path:
    """Training images after augmentation, with their boxes and labels; ignored regions dashed."""
    rows = -(-len(samples) // COLUMNS)
    sheet, axes = drawing.figure(rows, min(COLUMNS, len(samples)), "training images after augmentation")
    for place, (image, target) in zip(axes.flat, samples, strict=False):
        height, width = image.shape[1:]
        count = len(target["boxes"])
        title = f"image {int(target['image_id'])}, {width} x {height} px, {count} object{'s' * (count != 1)}"
        drawing.show(place, image.permute(1, 2, 0).numpy() / 255, title)
        for corners, label, crowd in zip(target["boxes"], target["labels"], target["iscrowd"], strict=True):
            color = drawing.CYCLE[(int(label) - 1) % len(drawing.CYCLE)]
            name = classes[int(label) - 1]
            if crowd:
                drawing.box(place, corners, Pen(drawing.GREY, "dashed", 2.0), f"{name} (ignore)")
            else:
                drawing.box(place, corners, Pen(color), name)
    return drawing.save(sheet, path)


def assignment_sheet(stage: str, images: Sequence[Seen], path: Path) -> Path:
    """One row per image, one picture per object: who is positive for it, and which of its neighbours are not."""
    columns = min(MOST_OBJECTS, max([len(seen.objects) for seen in images], default=0)) or 1
    near = f"IoU >= {NEAR:g}, the {MOST_NEAR} nearest drawn"
    if any(seen.points for seen in images):
        near = "points inside the object"
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
        drawing.dots(axes, (boxes[:, :2] + boxes[:, 2:]) / 2, pen)
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
    drawing.legend(sheet, [KINDS["positive"], NEGATIVE_CENTRES, OBJECT, *joined], points=True)
    return drawing.save(sheet, path)


def _draw_taken(axes: Axes, seen: Seen, taken: Taken, name: str, boxes: bool) -> None:
    """``boxes``: draw them; of everything that was available only the centres can be seen."""
    negative = taken.index[~taken.positive]
    positive = taken.index[taken.positive]
    joined = positive[seen.is_truth[positive]]
    found = positive[~seen.is_truth[positive]]
    easy = f"\n{np.mean(seen.max_iou[negative] < 0.05):.0%} of negatives below IoU 0.05" if len(negative) else ""
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
    for place, (name, ious) in zip(row, values.items(), strict=True):
        place.set_axis_on()
        if len(ious):
            weights = np.full(len(ious), 1 / len(ious))
            place.hist(ious, bins=edges, weights=weights, color=drawing.VERMILLION, edgecolor="white")
        place.set(xlim=(0, 1), ylim=(0, 1), xlabel="IoU with the nearest object")
        place.set_title(f"{name}: {len(ious)} negatives", fontsize=8)
        place.tick_params(labelsize=7)
        place.xaxis.label.set_size(7)
        place.spines[["top", "right"]].set_visible(False)
    row[0].set_ylabel("share of negatives", fontsize=7)


def errors_sheet(
    dataset: DetectionDataset,
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    path: Path,
    count: int,
    least_score: float,
) -> Path:
    """Validation images with their detections from ``least_score`` on, coloured by what is wrong with each (TIDE)."""
    shown = [row for row in detections if row["score"] >= least_score]
    found = classify_errors(annotations, shown)
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    missed = set(found.missed.tolist())
    title = f"detections with a score of at least {least_score:g} against the ground truth, errors as TIDE names them"
    number = min(count, len(dataset))
    sheet, axes = drawing.figure(-(-number // COLUMNS), min(COLUMNS, number), title, width=3.6, height=3.9)
    for index, place in zip(range(number), axes.flat, strict=False):
        image, target = dataset[index]
        image_id = int(target["image_id"])
        own = [k for k, row in enumerate(shown) if row["image_id"] == image_id]
        wrong = sum(found.labels[k] not in ("true_positive", "ignored") for k in own)
        objects = [(k, a) for k, a in enumerate(annotations["annotations"]) if a["image_id"] == image_id]
        lost = [k for k, _ in objects if k in missed]
        text = f"image {image_id}: {len(own)} detections, {wrong} wrong, {len(lost)} of {len(objects)} objects missed"
        drawing.show(place, image.permute(1, 2, 0).numpy() / 255, text, fade=0.2)
        for k, a in objects:
            pen = MISSED if k in missed else FOUND
            drawing.box(place, _corners(a), pen, f"M {names[a['category_id']]}" if k in missed else "", below=True)
        for k in sorted(own, key=lambda k: shown[k]["score"]):
            pen, letter = ERRORS[found.labels[k]]
            label = f"{letter} {names[shown[k]['category_id']]} {shown[k]['score']:.2f}".strip()
            drawing.box(place, _corners(shown[k]), pen, label)
    drawing.legend(sheet, [*(pen for pen, _ in ERRORS.values()), MISSED, FOUND], most=9)
    return drawing.save(sheet, path)


def _corners(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    x, y, width, height = row["bbox"]
    return x, y, x + width, y + height


assert set(ERRORS) == set(LABELS)
