"""One run as Weights & Biases shows it: scalars, histograms with fixed bins, tables, images with boxes, a summary."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch.nn import functional

from harness.data.dataset import DetectionDataset
from harness.runs.records import Result
from harness.telemetry.bins import EDGES
from harness.telemetry.recorder import Window

log = logging.getLogger("harness")

SHOWN_SCORE = 0.3  # boxes drawn on images; all detections are in the table
GRAY = 114  # of the border around smaller images
TABLE_ROWS = 10_000  # of detections: what a W&B table shows at once


class WandbTracker:
    """Mirrors one run. Whatever goes wrong in the mirror is said in one line, and the run goes on without it.

    Args:
        run: an open ``wandb`` run.
        images: validation images that are uploaded with their boxes.
    """

    def __init__(self, run: Any, images: int) -> None:
        self._run = run
        self._images = images
        self._broken = False

    def log(self, iteration: int, values: Mapping[str, float | None]) -> None:
        """Scalars: ``eval/...`` under their names, ``lr`` and losses as ``train/lr`` and ``train/loss/<name>``."""
        with self._kept_from_the_run():
            self._send(iteration, {scalar_key(name): value for name, value in values.items() if value is not None})

    def log_sampling(self, iteration: int, window: Window) -> None:
        """``sample_<quantity>/<stage>/<population>/<kind>`` histograms and ``sampling/...`` numbers per image."""
        with self._kept_from_the_run():
            self._send(iteration, sampling_values(window))

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        """The summary, a table a class, a table of detections and images with ground truth and detections."""
        with self._kept_from_the_run():
            accuracy = dict(numbers(result.metrics, "eval"))
            self._send(
                result.iterations,
                {
                    **accuracy,
                    **tables(result.metrics["per_class"], annotations, detections),
                    "eval/images": list(pictures(dataset, annotations, detections, self._images)),
                },
            )
            self._run.summary.update(
                {
                    **accuracy,
                    # Not "sampling": the last window's numbers have that name, and W&B would let them win.
                    **dict(numbers(result.sampling, "sampling_run")),
                    **dict(numbers(vars(result.cost), "cost")),
                    "data/fingerprint": result.data.get("fingerprint"),
                    "data/problems": len(result.data.get("problems", ())),
                }
            )

    def _send(self, iteration: int, values: Mapping[str, Any]) -> None:
        if not self._broken:
            self._run.log(dict(values), step=iteration)

    @contextmanager
    def _kept_from_the_run(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._broken = True
            reason = (str(error).splitlines() or [""])[0]
            log.warning(
                "the W&B mirror of this run ends here (%s: %s); its folder misses nothing", type(error).__name__, reason
            )


def scalar_key(name: str) -> str:
    """What a scalar of ``metrics.jsonl`` is called here."""
    if "/" in name:
        return name
    return "train/lr" if name == "lr" else f"train/loss/{name.removeprefix('loss_')}"


def sampling_values(window: Window) -> dict[str, Any]:
    """The histograms of a window that hold anything, as ``wandb.Histogram``, and its counts an image and an object."""
    import wandb

    values: dict[str, Any] = {}
    for key, counts in window.histograms.items():
        stage, quantity, population, kind = key.split("/")
        if counts.sum():
            histogram = wandb.Histogram(np_histogram=(counts, closed_edges(quantity)))
            values[f"sample_{quantity}/{stage}/{population}/{kind}"] = histogram
    for key, counts_of in window.counts.items():
        images, objects = max(1, counts_of["images"]), max(1, counts_of["objects"])
        values[f"sampling/{key}/positives_per_image"] = counts_of["positive"] / images
        values[f"sampling/{key}/negatives_per_image"] = counts_of["negative"] / images
        values[f"sampling/{key}/truth_per_image"] = counts_of["truth"] / images
        values[f"sampling/{key}/objects_without_positive"] = counts_of["objects_without_positive"] / objects
        stage, population = key.split("/")
        negatives = window.histograms[f"{stage}/iou/{population}/negative"]
        values[f"sampling/{key}/negatives_below_iou_0.05"] = float(negatives[0] / max(1, negatives.sum()))
    return values


def closed_edges(quantity: str) -> np.ndarray[Any, Any]:
    """Bin edges with the two outer ones that W&B wants: IoU from 0 to 1, the others up to one bin further."""
    inner = EDGES[quantity].numpy().astype(np.float64)
    if quantity == "iou":
        # Of float32 edges W&B would show every digit.
        return np.concatenate(([0.0], inner.round(6), [1.0]))
    first = -0.5 if quantity == "level" else 0.0
    last = 2 * inner[-1] - inner[-2] if quantity == "level" else inner[-1] ** 2 / inner[-2]
    return np.concatenate(([first], inner, [last]))


def numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int | float]]:
    """All numbers of nested mappings, named by their path; lists are tables or curves and no numbers."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}/{name}", value


def tables(
    per_class: list[dict[str, Any]], annotations: Mapping[str, Any], detections: list[dict[str, Any]]
) -> dict[str, Any]:
    """``eval/per_class`` and ``eval/detections``, the best of them."""
    import wandb

    names = class_names(annotations)
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    best = sorted(detections, key=lambda row: -row["score"])[:TABLE_ROWS]
    values = {
        "eval/detections": wandb.Table(
            columns=["image_id", "file", "class", "score", "x", "y", "width", "height"],
            data=[[d["image_id"], files[d["image_id"]], names[d["category_id"]], d["score"], *d["bbox"]] for d in best],
        )
    }
    if per_class:
        columns = list(per_class[0])
        values["eval/per_class"] = wandb.Table(
            columns=[*columns], data=[[row[c] for c in columns] for row in per_class]
        )
    return values


def pictures(
    dataset: DetectionDataset, annotations: Mapping[str, Any], detections: list[dict[str, Any]], count: int
) -> Iterator[Any]:
    """The first images with the boxes of the ground truth and of the detections that are worth showing."""
    import wandb

    names = class_names(annotations)
    shown = [dataset[index] for index in range(min(count, len(dataset)))]
    height, width = (max((image.shape[side] for image, _ in shown), default=0) for side in (1, 2))
    for image, target in shown:
        # W&B shows a list of images well only where all have one size: smaller ones get a gray border.
        image = functional.pad(image, (0, width - image.shape[2], 0, height - image.shape[1]), value=GRAY)
        image_id = int(target["image_id"])
        layers = {
            "ground_truth": [a for a in annotations["annotations"] if a["image_id"] == image_id],
            "predictions": [d for d in detections if d["image_id"] == image_id and d["score"] >= SHOWN_SCORE],
        }
        boxes = {
            layer: {"box_data": [_box(row, names) for row in rows], "class_labels": names}
            for layer, rows in layers.items()
        }
        yield wandb.Image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), boxes=boxes)


def class_names(annotations: Mapping[str, Any]) -> dict[int, str]:
    """Category id -> name."""
    return {category["id"]: category["name"] for category in annotations["categories"]}


def _box(row: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    x, y, width, height = row["bbox"]
    name = names[row["category_id"]]
    box: dict[str, Any] = {
        "position": {"minX": x, "minY": y, "maxX": x + width, "maxY": y + height},
        "domain": "pixel",
        "class_id": row["category_id"],
        "box_caption": f"{name} {row['score']:.2f}" if "score" in row else name,
    }
    if "score" in row:
        box["scores"] = {"score": row["score"]}
    return box
