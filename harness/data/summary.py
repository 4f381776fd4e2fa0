"""What a data set holds, in numbers."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.output import printable
from harness.data.dataset import DetectionDataset
from harness.data.splits import Splits

log = logging.getLogger("harness")

MAX_NAMED = 12  # classes that a line names


def describe(splits: Splits) -> dict[str, Any]:
    """Statistics of a run's data as plain numbers, strings, lists and dicts (JSON as it is).

    fingerprint, classes, train and val (see ``describe_split``), problems: every problem found, with its outcome.
    """
    return {
        "fingerprint": splits.fingerprint,
        "classes": list(splits.classes),
        "train": describe_split(splits.train),
        "val": describe_split(splits.val),
        "problems": [
            {"file": p.file, "object": p.object, "what": p.what, "valid": p.valid, "outcome": p.outcome}
            for p in splits.problems
        ],
    }


def describe_split(dataset: DetectionDataset) -> dict[str, Any]:
    """Counts and quantiles of one split.

    images, images_without_objects, objects, ignored (crowd or difficult; in no other figure), objects_per_class;
    objects_per_image, box_side (sqrt of the area, px), box_aspect (width / height), box_share (of the image's area),
    image_width, image_height: each min, q25, median, q75, max and mean.
    """
    notes = dataset.annotations
    counted = ~notes.ignore
    image_of = np.repeat(np.arange(len(dataset)), np.diff(notes.offsets))
    per_image = np.bincount(image_of[counted], minlength=len(dataset))
    per_class = np.bincount(notes.labels[counted], minlength=len(dataset.classes) + 1)[1:]
    boxes = notes.boxes[counted]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    image_area = notes.sizes.prod(axis=1)[image_of[counted]]
    return {
        "images": len(dataset),
        "images_without_objects": int((per_image == 0).sum()),
        "objects": int(counted.sum()),
        "ignored": int(notes.ignore.sum()),
        "objects_per_class": dict(zip(dataset.classes, per_class.tolist(), strict=True)),
        "objects_per_image": spread(per_image),
        "box_side": spread(np.sqrt(width * height)),
        "box_aspect": spread(width / height),
        "box_share": spread(width * height / image_area),
        "image_width": spread(notes.sizes[:, 0]),
        "image_height": spread(notes.sizes[:, 1]),
    }


def log_splits(splits: Splits) -> None:
    """Says what the data hold, and which classes cannot be evaluated because no validation image shows them."""
    train, val = describe_split(splits.train), describe_split(splits.val)
    names = printable(", ".join(splits.classes[:MAX_NAMED])) + (", ..." if len(splits.classes) > MAX_NAMED else "")
    log.info(
        "data: %d training images with %d objects, %d validation images with %d objects; %d classes: %s",
        train["images"], train["objects"], val["images"], val["objects"], len(splits.classes), names,
    )  # fmt: skip
    if absent := [name for name, count in val["objects_per_class"].items() if not count]:
        more = f" and {len(absent) - MAX_NAMED} more" if len(absent) > MAX_NAMED else ""
        log.warning("data: no validation object of %s%s: no AP for it", printable(", ".join(absent[:MAX_NAMED])), more)


def spread(values: npt.NDArray[Any]) -> dict[str, float]:
    """min, q25, median, q75, max and mean; {} of nothing."""
    if not len(values):
        return {}
    names = ("min", "q25", "median", "q75", "max")
    quantiles = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return {**dict(zip(names, quantiles, strict=True)), "mean": float(values.mean())}
