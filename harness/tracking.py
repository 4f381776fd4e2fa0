"""The mirror of a run: Weights & Biases, or nothing. The folder is the truth. Floor 5; this file alone names wandb.

A mirror never changes or stops a run: without a network, a key or the will to upload it writes offline, into the run
folder, and ``wandb sync`` uploads that later.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.analysis.bins import EDGES
from harness.analysis.telemetry import Window
from harness.config import TrackerConfig
from harness.data.dataset import DetectionDataset
from harness.records import Result

log = logging.getLogger("harness")

SHOWN_SCORE = 0.3  # boxes drawn on images; all detections are in the table
TABLE_ROWS = 10_000  # of detections: what a W&B table shows at once


class Tracker(Protocol):
    """What the runner tells a mirror."""

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Scalars of one iteration."""

    def log_sampling(self, iteration: int, window: Window) -> None:
        """The histograms since the last log step."""

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        """The finished run: summary, tables, images with their boxes."""


class NoTracker:
    """No mirror."""

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Goes nowhere."""

    def log_sampling(self, iteration: int, window: Window) -> None:
        """Goes nowhere."""

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        """Goes nowhere."""


class WandbTracker:
    """Mirrors one run.

    Args:
        run: an open ``wandb`` run.
        images: validation images that are uploaded with their boxes.
    """

    def __init__(self, run: Any, images: int) -> None:
        self._run = run
        self._images = images

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        """Scalars under their names."""
        self._run.log(dict(values), step=iteration)

    def log_sampling(self, iteration: int, window: Window) -> None:
        """``sample_<quantity>/<stage>/<population>/<kind>`` histograms and ``sampling/...`` numbers an image."""
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
            values[f"sampling/{key}/objects_without_positive"] = counts_of["objects_without_positive"] / objects
        self._run.log(values, step=iteration)

    def finish(
        self,
        result: Result,
        dataset: DetectionDataset,
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> None:
        """The summary, a table a class, a table of detections and images with ground truth and detections."""
        import wandb

        names: dict[int, str] = {category["id"]: category["name"] for category in annotations["categories"]}
        classes = result.metrics["per_class"]
        values: dict[str, Any] = {"eval/images": list(self._pictures(dataset, names, annotations, detections))}
        if classes:
            columns = list(classes[0])
            values["eval/per_class"] = wandb.Table(columns=columns, data=[[row[c] for c in columns] for row in classes])
        best = sorted(detections, key=lambda row: -row["score"])[:TABLE_ROWS]
        values["eval/detections"] = wandb.Table(
            columns=["image_id", "class", "score", "x", "y", "width", "height"],
            data=[[d["image_id"], names[d["category_id"]], d["score"], *d["bbox"]] for d in best],
        )
        self._run.log(values, step=result.iterations)
        for name, value in result.metrics.items():
            if isinstance(value, int | float):
                self._run.summary[f"eval/{name}"] = value
        for key, numbers in result.sampling.items():
            for name, value in numbers.items():
                self._run.summary[f"sampling/{key}/{name}"] = value
        for name, value in vars(result.cost).items():
            self._run.summary[f"cost/{name}"] = value

    def _pictures(
        self,
        dataset: DetectionDataset,
        names: dict[int, str],
        annotations: Mapping[str, Any],
        detections: list[dict[str, Any]],
    ) -> Iterator[Any]:
        import wandb

        for index in range(min(self._images, len(dataset))):
            image, target = dataset[index]
            image_id = int(target["image_id"])
            truth = [a for a in annotations["annotations"] if a["image_id"] == image_id]
            found = [d for d in detections if d["image_id"] == image_id and d["score"] >= SHOWN_SCORE]
            layers = {"ground_truth": truth, "predictions": found}
            boxes = {
                layer: {"box_data": [_box(row, names) for row in rows], "class_labels": names}
                for layer, rows in layers.items()
            }
            yield wandb.Image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), boxes=boxes)


def closed_edges(quantity: str) -> np.ndarray[Any, Any]:
    """Bin edges with the two outer ones that W&B wants: IoU from 0 to 1, the others one step further out."""
    inner = EDGES[quantity].numpy().astype(np.float64)
    if quantity == "iou":
        return np.concatenate(([0.0], inner, [1.0]))
    return np.concatenate(([2 * inner[0] - inner[1]], inner, [2 * inner[-1] - inner[-2]]))


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


@contextmanager
def open_tracker(
    settings: TrackerConfig, folder: Path, config: Mapping[str, Any], choices: Mapping[str, str]
) -> Iterator[Tracker]:
    """Opens the mirror that ``settings`` asks for and closes it however the run ends.

    A run that is continued keeps its W&B identity, the name of its folder.
    """
    if settings.kind == "none":
        yield NoTracker()
        return
    group = settings.group or "-".join(choices.get(name, "") for name in ("detector", "assigner", "sampler"))
    run = _open(
        settings,
        folder,
        id=folder.name,
        name=folder.name,
        group=group,
        job_type="train",
        tags=[*settings.tags, *(f"{k}:{v}"[:64] for k, v in choices.items() if k in ("detector", "sampler", "data"))],
        config={**config, "choices": dict(choices)},
    )
    failed = True
    try:
        yield WandbTracker(run, settings.images)
        failed = False
    finally:
        run.finish(exit_code=int(failed))


def log_report(settings: TrackerConfig, folder: Path, name: str) -> None:
    """Mirrors a report (tables, plots, page) as one artifact of a run of its own."""
    import wandb

    if settings.kind == "none":
        return
    run = _open(settings, folder, name=name, job_type="report", tags=list(settings.tags), config={})
    artifact = wandb.Artifact(name=name, type="report")
    artifact.add_dir(os.fspath(folder))
    run.log_artifact(artifact)
    run.finish()


def _open(settings: TrackerConfig, folder: Path, **options: Any) -> Any:
    """``wandb.init`` as asked; offline, with one line that says so, where online does not work."""
    import wandb

    quiet = wandb.Settings(silent=True, console="off", init_timeout=settings.init_timeout, disable_git=True)
    options = {"project": settings.project, "entity": settings.entity, "dir": os.fspath(folder), **options}
    if settings.mode == "online":
        try:
            if not wandb.login(prompt=False):  # init would wait for a keyboard
                raise wandb.errors.UsageError("no API key; `wandb login` stores one")
            return wandb.init(mode="online", resume="allow", settings=quiet, **options)
        except (wandb.errors.Error, OSError) as error:
            reason = str(error).splitlines()[0]
            log.warning("W&B is not reachable (%s): this run is mirrored offline, `wandb sync` uploads it", reason)
    return wandb.init(mode="offline", settings=quiet, **options)
