"""The sheet of training images as the detector gets them: boxes and labels, masks and keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.dataset import KEYPOINTS, MASKS, DatasetItem
from harness.inspect import drawing
from harness.inspect.drawing import Array, Pen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

COLUMNS = 4
HIDDEN = Pen(drawing.GRAY, "none", label="labeled but hidden", marker="s")


def data_sheet(
    samples: Sequence[DatasetItem],
    classes: Sequence[str],
    path: Path,
    files: Mapping[int, str],
    keypoint_names: Sequence[str] = (),
) -> Path:
    """Training images after augmentation, with their boxes and labels; ignored regions dashed.

    Where the targets hold masks, these are tinted in the color of their box. Keypoints are dots, a color for each, so
    that a flip that forgot to swap left and right would show; hidden ones are squares.

    Args:
        samples: images and targets.
        classes: names of the labels 1, 2, ...
        path: of the PNG.
        files: image id -> name.
        keypoint_names: in their order, where targets hold keypoints.
    """
    rows = -(-len(samples) // COLUMNS)
    sheet, axes = drawing.figure(rows, min(COLUMNS, len(samples)), "training images after augmentation")
    for place, (image, target) in zip(axes.flat, samples, strict=False):
        height, width = image.shape[1:]
        count = len(target["boxes"])
        title = f"{files[int(target['image_id'])]}\n{width} x {height} px, {count} object{'s' * (count != 1)}"
        drawing.show(place, image.permute(1, 2, 0).numpy() / 255, title)
        _draw_objects(place, target, classes)
    if any(KEYPOINTS in target for _, target in samples):
        pens = [_keypoint_pen(k, drawing.plain(name)) for k, name in enumerate(keypoint_names)]
        drawing.legend(sheet, [*pens, HIDDEN], points=True, most=6)
    return drawing.save(sheet, path)


def _draw_objects(place: Axes, target: Mapping[str, Tensor], classes: Sequence[str]) -> None:
    labels = drawing.Labels(place)
    for number, (corners, label, crowd) in enumerate(
        zip(target["boxes"], target["labels"], target["iscrowd"], strict=True)
    ):
        pen, name = Pen(drawing.CYCLE[(int(label) - 1) % len(drawing.CYCLE)]), classes[int(label) - 1]
        if crowd:
            pen, name = Pen(drawing.GRAY, "dashed", 2.0), f"{name} (ignore)"
        if MASKS in target:
            drawing.mask(place, target[MASKS][number].numpy(), pen)
        drawing.box(place, corners, pen)
        if KEYPOINTS in target:
            _draw_keypoints(place, target[KEYPOINTS][number].numpy())
        labels.add(corners, name, pen)


def _draw_keypoints(place: Axes, points: Array) -> None:
    """Points ``(K, 3)``: x, y px and COCO's visibility (0 not labeled, 1 hidden, 2 visible)."""
    for k, point in enumerate(points):
        if point[2] > 0:
            pen = _keypoint_pen(k) if point[2] > 1 else Pen(_keypoint_pen(k).color, "none", marker=HIDDEN.marker)
            drawing.dots(place, point[None, :2], pen, 18.0)


def _keypoint_pen(number: int, name: str = "") -> Pen:
    return Pen(drawing.CYCLE[number % len(drawing.CYCLE)], "none", label=name, marker="o")
