"""YOLO folders in Ultralytics' layout: data.yaml, images/ beside labels/."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.data.augment.protocol import Augment
from harness.data.checks import OnBad
from harness.data.dataset import MASKS
from harness.data.images import Orientation
from harness.data.options import Loading
from harness.data.prepared import Identity
from harness.data.probing import Check, probe_all
from harness.data.records import AnnotationProblem, DataError, ImageRecord, Parsed, ParsedData
from harness.data.sources import found_by, yields
from harness.data.sources.yolo_labels import read_labels
from harness.data.sources.yolo_layout import YoloLayout, label_file
from harness.data.splits import Splits, build_splits, split_by_ratio
from harness.data.values import class_names


def _look(root: str, val_ratio: float | None = None, allow_outside: bool = False) -> None:
    layout = YoloLayout.read(Path(root).expanduser(), allow_outside=allow_outside)
    for split in ("train", "val")[: 1 if val_ratio is not None else 2]:
        layout.look(split)


@found_by(_look)
@yields(MASKS)
def yolo(
    root: str,
    val_ratio: float | None = None,
    split_seed: int = 0,
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
    on_bad: OnBad = "error",
    check: Check = "full",
    orientation: Orientation = "exif",
    cache_bytes: int = 512 * 2**20,
    cache_dir: str | None = None,
    augment: Augment | None = None,
) -> Splits:
    """A data set as Ultralytics' detectors read it (docs.ultralytics.com/datasets/detect).

    Rows are ``class cx cy w h`` or ``class x y x y x y ...`` (a polygon: its box, and its mask where one is asked for)
    in shares of the image's sides. An empty or a missing label file is an image without objects.

    Args:
        root: the data.yaml, or the folder that holds it; images and labels lie below that folder.
        val_ratio: above 0 and below 1: ``val`` is not read; that share of the training images is held out.
        split_seed: with which they are drawn.
        classes: names in the order of their labels, objects of others are left out; ``None`` takes all of data.yaml.
        allow_outside: paths in data.yaml and in lists may leave the folder.
        on_bad: ``error`` refuses a data set with problems, ``drop`` goes on without the bad objects and images.
        check: ``full``, ``headers`` or ``none``, see :func:`harness.data.probing.probe`; sizes are always read.
        orientation: ``exif`` or ``stored``, see :class:`harness.data.options.Loading`; Ultralytics' own is ``exif``.
        cache_bytes: bound of the decoded images kept in memory.
        cache_dir: folder for prepared annotations, see :func:`harness.data.options.cache_folder`.
        augment: of the training images.

    Raises:
        ValueError: a value out of its range.
        DataError: what is missing, empty, or, under the policy ``error``, wrong.
    """
    loading = Loading(on_bad, check, orientation, cache_bytes, cache_dir, augment)
    chosen = class_names(classes)
    layout = YoloLayout.read(Path(root).expanduser(), allow_outside=allow_outside)
    names = list(layout.names) if chosen is None else chosen
    if unknown := [name for name in names if name not in layout.names]:
        raise DataError(f"classes: {unknown[0]!r} is not a name of data.yaml; valid: {', '.join(layout.names)}")
    if val_ratio is None:
        train, val = layout.images("train"), layout.images("val")
    else:
        train, val = split_by_ratio(layout.images("train"), val_ratio, split_seed)

    def read() -> ParsedData:
        said = f"train: {len(train)} images, val: {len(val)} images, as {layout.file.name} has them"
        parsed = (_parse("train split", train, layout, orientation), _parse("val split", val, layout, orientation))
        category_ids = tuple(layout.names.index(name) for name in names)
        return ParsedData(*parsed, tuple(names), category_ids, notes=(said, *layout.notes))

    files = (layout.file, *layout.lists, *(label_file(image) for image in (*train, *val)))
    below = [[os.path.relpath(image, layout.root) for image in images] for images in (train, val)]
    identity = Identity("yolo", layout.root, files, {"yolo": [below, chosen]}, num_images=len(train) + len(val))
    return build_splits(identity, read, loading)


def _parse(split: str, images: Sequence[str], layout: YoloLayout, orientation: Orientation) -> Parsed:
    """The images with their labels. Shares become pixels, so the size of every image is read here."""
    records: list[ImageRecord] = []
    problems: list[AnnotationProblem] = []
    for position, (image, found) in enumerate(zip(images, probe_all(images, "headers"), strict=True)):
        name = os.path.relpath(image, layout.root)
        if found.fault:
            problems.append(AnnotationProblem(name, None, found.fault))
            continue
        width, height = found.upright_size() if orientation == "exif" else (found.width, found.height)
        labels = label_file(image)
        notes = os.path.relpath(labels, layout.root)
        read = read_labels(labels, notes, layout.names, width, height)
        records.append(
            ImageRecord(position, name, os.path.basename(image), Path(image), notes, width, height, read.objects)
        )
        problems += read.problems
    return Parsed(split, tuple(records), tuple(problems))
