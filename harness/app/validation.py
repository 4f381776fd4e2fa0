"""What a detector finds in a data set and how good that is, by one process or by several that share the images."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Subset

from harness.core.processes import broadcast_object, process_count, process_rank
from harness.data.dataset import DetectionDataset
from harness.data.loading import Share, val_loader
from harness.experiment.experiment import Experiment
from harness.runs.records import read_json, write_json
from harness.runs.schema import RunConfig
from harness.training.batches import watched
from harness.training.detect import detect, detect_together
from harness.training.interrupt import StopSignals
from harness.training.progress import Bar

log = logging.getLogger("harness")


class Validation:
    """Detects in data sets and evaluates on the validation split of an experiment.

    Args:
        experiment: its validation split and its evaluator.
        settings: batch size, loading processes, precision.
        annotations: of the validation split, in COCO's format.
        device: where the detector is.
        stop: what may ask to stop.

    Attributes:
        seconds: that evaluations took so far, over all sessions of the run.
    """

    def __init__(
        self,
        experiment: Experiment,
        settings: RunConfig,
        annotations: Mapping[str, Any],
        device: torch.device,
        stop: StopSignals,
    ) -> None:
        self.dataset = experiment.splits.val
        self.evaluator = experiment.evaluator
        self.settings = settings
        self.annotations = annotations
        self.device = device
        self.stop = stop
        self.seconds = 0.0

    def rehearse(self, model: nn.Module) -> None:
        """Evaluates one batch of validation images, so that a fault of the evaluation does not cost a training."""
        images = min(len(self.dataset), self.settings.batch_size)
        batches = val_loader(Subset(self.dataset, range(images)), batch_size=images)
        self.evaluator(self.annotations, detect(model, batches, self.device, self.settings.precision))

    def evaluate(self, model: nn.Module) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The metrics, and the detections that they are of. The first of several processes alone gets detections."""
        started = time.monotonic()
        detections = self.detect(model, self.dataset, bar="evaluate")
        metrics = self.evaluator(self.annotations, detections).to_dict() if process_rank() == 0 else {}
        metrics = broadcast_object(metrics)
        self.seconds += time.monotonic() - started
        return metrics, detections

    def detect(
        self,
        model: nn.Module,
        dataset: DetectionDataset,
        *,
        score_thr: float | None = None,
        everywhere: bool = False,
        bar: str | None = None,
    ) -> list[dict[str, Any]]:
        """What ``model`` finds in all images of ``dataset``: see :func:`harness.training.detect.detect_together`.

        ``bar`` names the work on a terminal.
        """
        share = Share(process_rank(), process_count())
        loader = val_loader(
            dataset,
            batch_size=self.settings.batch_size,
            num_workers=self.settings.num_workers,
            timeout=self.settings.loading_timeout,
            share=share,
        )
        batches = watched(loader)
        if bar is not None:
            batches = Bar(bar, len(loader), mode=self.settings.progress).over(batches)
        return detect_together(
            model,
            batches,
            -(-len(dataset) // self.settings.batch_size),
            self.device,
            self.settings.precision,
            stop=self.stop,
            score_thr=score_thr,
            everywhere=everywhere,
        )


def keep_annotations(root: Path, fingerprint: str, annotations: Mapping[str, Any]) -> None:
    """Leaves what the detections are measured against beside the runs, once for all runs on this data."""
    path = root / "annotations" / f"{fingerprint}.json"
    try:
        read_json(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, annotations, indent=None)
    except ValueError as error:
        log.warning("%s; it is written again", error)
        write_json(path, annotations, indent=None)
