"""One picture per assigner and sampler, on the same two images: ``python -m harness.inspect.gallery FOLDER``.

The two images are a crowded and a sparse scene of the embedded data. What a method sees is real: small detectors are
trained for some hundred iterations each, about five minutes together (found again if they were trained before), and the
method runs inside the first of them that it can work in.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from harness.app.run_end import Stopped
from harness.app.runner import run
from harness.data.dataset import DatasetItem, DetectionDataset
from harness.inspect import drawing
from harness.inspect.capture import Seen, selections
from harness.inspect.drawing import Pen
from harness.inspect.setting import Setting, composed, splits_of
from harness.runs import schema
from harness.runs.records import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In order of preference: the first one in which a method can work shows it.
DETECTORS = {
    "assigner": ("tiny_retinanet", "tiny_fcos", "tiny_yolox", "tiny_rcnn"),
    "sampler": ("tiny_rcnn", "tiny_retinanet", "tiny_fcos"),
}
TRAINING = ("run.iterations=400", "run.threads=1", "tracker=none", "seed=0", "run.progress=off")
SEARCHED = 200  # training images among which the two are found
COLORS = 96  # of a picture's palette
SIZES = {"o": 34, "s": 20, "x": 22, ".": 5}  # of markers, points squared

OBJECT = Pen(drawing.BLACK, width=1.6, label="object")
POSITIVE = Pen(drawing.BLUE, "none", label="positive, in the color of its object", marker="o")
IGNORED = Pen(drawing.PURPLE, "none", label="ignored", marker="s")
NEGATIVE = Pen(drawing.GRAY, "none", label="negative that touches an object", marker=".")
OF_OBJECTS = (drawing.BLUE, drawing.ORANGE, drawing.GREEN, drawing.VERMILLION, drawing.SKY, drawing.YELLOW, "#8C564B")
SAMPLED_POSITIVE = Pen(drawing.BLUE, "none", label="sampled positive", marker="o")
SAMPLED_NEGATIVE = Pen(drawing.VERMILLION, "none", label="sampled negative", marker="x")
LEFT_OUT = Pen(drawing.GRAY, "none", label="candidate that is not sampled", marker=".")


@dataclass(frozen=True)
class Shown:
    """One method, as the detector that shows it sees the two images."""

    group: str
    option: str
    detector: str
    stage: str
    images: list[Seen]


def options_of(group: str) -> list[str]:
    """The names of the options of a group of ``conf``."""
    return sorted(path.stem for path in (schema.folder("conf") / group).glob("*.yaml"))


def two_images(dataset: DetectionDataset) -> list[DatasetItem]:
    """A crowded image and a sparse one: the most objects, and a single one (or the fewest), the first of each kind."""
    items = [dataset[index] for index in range(min(SEARCHED, len(dataset)))]
    counts = np.array([len(target["boxes"]) for _, target in items])
    fewest = counts[counts > 0].min()
    return [items[int(counts.argmax())], items[int((counts == fewest).argmax())]]


def trained(detector: str, root: Path) -> Path:
    """The weights of a short run of ``detector`` with its own components; an earlier one is found again."""
    setting = composed([f"detector={detector}", f"run.root={root}", *TRAINING])
    finished = run(setting.config, choices=setting.choices, sources=setting.sources)
    return Path(finished.folder) / "model.pt"


def shown(group: str, option: str, root: Path) -> Shown:
    """A method in the first detector that it can work in.

    Raises:
        Stopped: every detector refuses it; the reason is that of the last one.
    """
    refused: Stopped | None = None
    for detector in DETECTORS[group]:
        setting = composed([f"detector={detector}", f"{group}={option}", f"run.root={root}", *TRAINING])
        try:
            return _seen_by(setting, group, option, detector, root)
        except Stopped as stop:
            refused = stop
    assert refused is not None
    raise refused


def _seen_by(setting: Setting, group: str, option: str, detector: str, root: Path) -> Shown:
    splits = splits_of(setting)
    torch.manual_seed(0)
    by_stage = selections(setting, splits, two_images(splits.train), trained(detector, root))
    stage = "roi" if "roi" in by_stage else "dense"
    return Shown(group, option, detector, stage, by_stage[stage])


def draw(method: Shown, path: Path) -> Path:
    """Writes the picture of a method: two images, a title with the numbers, a legend."""
    title = f"{method.option} in {method.detector}"
    sheet, axes = drawing.figure(1, len(method.images), title, width=3.4, height=3.5)
    for place, seen in zip(axes.flat, method.images, strict=True):
        if method.group == "assigner":
            _draw_assignment(place, seen)
        else:
            _draw_sample(place, seen)
    assigner_pens = [OBJECT, POSITIVE, IGNORED, NEGATIVE]
    sampler_pens = [OBJECT, SAMPLED_POSITIVE, SAMPLED_NEGATIVE, LEFT_OUT]
    drawing.legend(sheet, assigner_pens if method.group == "assigner" else sampler_pens, points=True, most=2)
    drawing.save(sheet, path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE)
    with atomic_write(path, "wb") as file:
        small.save(file, format="PNG", optimize=True)
    return path


def _centers(seen: Seen) -> drawing.Array:
    centers: drawing.Array = (seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2
    return centers


def _show(axes: Axes, seen: Seen, title: str) -> None:
    """The image in pale gray, so that colors belong to the markers alone."""
    gray = seen.image @ np.array([0.299, 0.587, 0.114])
    drawing.show(axes, np.repeat(gray[..., None], 3, -1), title, fade=0.55)


def _mark(axes: Axes, centers: drawing.Array, pen: Pen) -> None:
    edge = {"linewidths": 1.2} if pen.marker == "x" else {"linewidths": 0.5, "edgecolors": "white"}
    if pen.marker == ".":
        edge = {"linewidths": 0.0}
    axes.scatter(centers[:, 0], centers[:, 1], s=SIZES[pen.marker], c=pen.color, marker=pen.marker, zorder=3, **edge)


def _draw_assignment(axes: Axes, seen: Seen) -> None:
    positive, ignored = seen.gt_index >= 0, seen.gt_index == -2
    negative = (seen.gt_index == -1) & (seen.max_iou > 0)
    owners = len(np.unique(seen.gt_index[positive]))
    counts = f"{positive.sum()} positive, {ignored.sum()} ignored"
    _show(axes, seen, f"{counts}\n{owners} of {len(seen.objects)} objects have a positive")
    centers = _centers(seen)
    _mark(axes, centers[negative], NEGATIVE)
    _mark(axes, centers[ignored], IGNORED)
    for number, corners in enumerate(seen.objects):
        color = OF_OBJECTS[number % len(OF_OBJECTS)]
        drawing.box(axes, corners, Pen(color, width=1.8))
        _mark(axes, centers[seen.gt_index == number], Pen(color, "none", marker="o"))


def _draw_sample(axes: Axes, seen: Seen) -> None:
    taken = next(iter(seen.taken.values()))
    positive, negative = taken.index[taken.positive], taken.index[~taken.positive]
    easy = f", {np.mean(seen.max_iou[negative] < 0.05):.0%} of them below IoU .05" if len(negative) else ""
    _show(axes, seen, f"{len(positive)} positive\n{len(negative)} negative{easy}")
    centers = _centers(seen)
    _mark(axes, centers[np.setdiff1d(np.flatnonzero(seen.gt_index >= -1), taken.index)], LEFT_OUT)
    for corners in seen.objects:
        drawing.box(axes, corners, OBJECT)
    _mark(axes, centers[negative], SAMPLED_NEGATIVE)
    _mark(axes, centers[positive], SAMPLED_POSITIVE)


def pictures(folder: Path, root: Path, only: Sequence[str] = ()) -> Iterator[Path]:
    """Writes ``<group>_<option>.png`` for every assigner and sampler, or for the options named in ``only``."""
    folder.mkdir(parents=True, exist_ok=True)
    for group in DETECTORS:
        for option in options_of(group):
            if not only or option in only:
                yield draw(shown(group, option, root), folder / f"{group}_{option}.png")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.inspect.gallery", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--root", type=Path, default=Path("results"), help="where the short runs are kept")
    parser.add_argument("--only", nargs="*", default=[], help="options to draw; all without it")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        for path in pictures(arguments.folder, arguments.root, arguments.only):
            print(path)
    except (Stopped, OSError) as error:
        print(f"harness: {error}", file=sys.stderr)
        return 1
    return 0
