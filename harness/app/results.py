"""The result of a finished training: what it measured, on which data, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.core.processes import process_count
from harness.experiment.experiment import Experiment
from harness.runs.folder import RunFolder
from harness.runs.integrity import file_digest
from harness.runs.records import Cost, Result, read_json
from harness.training.devices import peak_memory_mb
from harness.training.state import TrainState


def result_of(
    folder: RunFolder,
    experiment: Experiment,
    training: TrainState,
    metrics: dict[str, Any],
    *,
    sampling: dict[str, Any],
    mined: Mapping[str, Any],
    eval_seconds: float,
) -> Result:
    """The record of a run whose detections are written.

    Args:
        folder: of the run.
        experiment: what was run.
        training: at its end.
        metrics: of the weights that were evaluated.
        sampling: the summary of the telemetry; {} without one.
        mined: what mining the training set adds to the record.
        eval_seconds: that evaluations took.
    """
    splits = experiment.splits
    images = training.iteration * training.config.batch_size
    return Result(
        run=folder.path.name,
        hash=experiment.hash_on(splits.fingerprint),
        seed=experiment.settings.seed,
        choices=dict(experiment.choices),
        metrics=metrics,
        sampling=sampling,
        data={
            "name": experiment.choices.get("data", ""),
            "fingerprint": splits.fingerprint,
            "classes": list(splits.classes),
            "train_images": len(splits.train),
            "val_images": len(splits.val),
            "problems": [asdict(problem) for problem in splits.problems],
        },
        iterations=training.iteration,
        images=images,
        parameters=sum(p.numel() for p in training.model.parameters() if p.requires_grad),
        cost=Cost(
            train_seconds=training.seconds,
            eval_seconds=eval_seconds,
            images_per_second=images / max(training.seconds, 1e-9),
            peak_memory_mb=peak_memory_mb(training.device),
            sessions=training.sessions,
            processes=process_count(),
        ),
        files={"detections.json": file_digest(folder.file("detections.json"))},
        extra={**mined, **_selected(training), **_measured(folder), **_loss_factors(training)},
    )


def _selected(training: TrainState) -> dict[str, Any]:
    """Which weights the result is of, where they were chosen by their mAP on the validation split."""
    best = training.best
    return {} if best is None else {"selected": {"iteration": best.iteration or training.iteration, "by": "map"}}


def _measured(folder: RunFolder) -> dict[str, Any]:
    """What the guard has seen before the first step."""
    path = folder.file("guard.json")
    return {"guard": read_json(path)} if path.exists() else {}


def _loss_factors(training: TrainState) -> dict[str, Any]:
    """By how much the losses were scaled."""
    factors: dict[str, dict[str, float]] = training.model.loss_factors()  # type: ignore[operator]
    return {"loss_factors": factors} if factors else {}
