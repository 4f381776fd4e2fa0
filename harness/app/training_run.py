"""The events of one run that trains: seed, build or continue, train, evaluate, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from harness.app.assembly import assemble, guarded
from harness.app.results import result_of
from harness.app.validation import Validation, keep_annotations
from harness.core.processes import alone, broadcast_object, process_count, process_rank
from harness.data.export import to_coco
from harness.data.loading import Batch, Share, train_loader
from harness.experiment.experiment import Experiment
from harness.runs.environment import describe
from harness.runs.folder import RunFolder
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import Result, State, write_json
from harness.telemetry.recorder import SamplingTelemetry
from harness.tracking import Tracker
from harness.training import checkpoint
from harness.training.batches import watched
from harness.training.devices import choose, set_threads
from harness.training.divergence import DivergenceWatch
from harness.training.image_order import ImageOrder
from harness.training.interrupt import Interrupted, StopSignals
from harness.training.leases import DeviceLease
from harness.training.loop import Hooks, train
from harness.training.mining import Mining
from harness.training.process_group import synchronize_batch_norm
from harness.training.state import TrainState

log = logging.getLogger("harness")


class TrainingRun:
    """The events of one run that trains; :meth:`execute` is their order."""

    def __init__(
        self, folder: RunFolder, experiment: Experiment, tracker: Tracker, lease: DeviceLease, stop: StopSignals
    ) -> None:
        self.folder = folder
        self.experiment = experiment
        self.splits = experiment.splits
        self.settings = experiment.settings.run.for_images(len(self.splits.train))
        self.writes = process_rank() == 0  # of several processes, the first one alone
        self.tracker = tracker
        self.stop = stop
        self.threads = set_threads(self.settings.threads)
        self.lease = lease
        self.device = choose(self.settings, lease, stop)
        analysis = experiment.settings.analysis
        self.telemetry = SamplingTelemetry() if analysis.telemetry else None
        self.guard_images = analysis.guard_images
        self.mining = Mining(
            experiment.mining,
            self.splits.train,
            folder.file("mined"),
            iterations=self.settings.iterations,
            batch_size=self.settings.batch_size,
        )
        self.annotations = to_coco(self.splits.val)
        self.validation = Validation(experiment, self.settings, self.annotations, self.device, stop)

    def execute(self) -> Result | None:
        """Builds or continues, trains, evaluates, writes. Processes other than the first return nothing."""
        if self.writes:
            write_json(self.folder.file("environment.json"), describe(self.device, self.threads))
            keep_annotations(Path(self.settings.root), self.splits.fingerprint, self.annotations)
        training = assemble(self.experiment, self.settings, self.device, self.telemetry)
        if broadcast_object(self.folder.checkpoint.exists()):
            training.load_state_dict(checkpoint.load(self.folder.checkpoint))
            self.validation.seconds = training.eval_seconds
            log.info("continues %s at iteration %d", self.folder.path, training.iteration)
        elif self.writes:
            with alone():
                if self.settings.rehearse:
                    self.validation.rehearse(training.model)
                if self.guard_images:
                    measured = guarded(self.experiment, self.settings, training.model, self.device, self.guard_images)
                    write_json(self.folder.file("guard.json"), asdict(measured))
                    for line in measured.warnings:
                        log.warning("%s", line)
        if process_count() > 1 and self.device.type == "cuda":
            synchronize_batch_norm(training.model)
        self._train_and_log(training)
        metrics, detections = self._evaluate_selected(training)
        return self._finish(training, metrics, detections) if self.writes else None

    def _train_and_log(self, training: TrainState) -> None:
        with self._metrics_log(training) as metrics_log:
            watch = DivergenceWatch(self.folder.file("guard.json")) if self.writes else None

            def record(iteration: int, values: dict[str, float]) -> None:
                if metrics_log is not None:
                    metrics_log.append({"iteration": iteration, **values})
                self.tracker.log(iteration, values)

            def on_log(iteration: int, values: dict[str, float]) -> None:
                record(iteration, values)
                if watch is not None and (warning := watch.look(iteration, values)):
                    log.warning("%s", warning)
                if self.telemetry is not None:
                    self.tracker.log_sampling(iteration, self.telemetry.close_window(iteration))

            def on_eval(iteration: int) -> None:
                metrics, _ = self.validation.evaluate(training.evaluated_model)
                training.eval_seconds = self.validation.seconds
                if training.best is not None:
                    training.best.offer(iteration, metrics["map"], training.evaluated_model)
                record(iteration, {f"eval/{name}": metrics[name] for name in ("map", "map50", "map75")})

            try:
                self._train(training, Hooks(on_log, on_eval, self._on_save))
            except Interrupted as stop:
                if self.writes:
                    self.folder.set_status(State.INTERRUPTED, str(stop), training.iteration)
                raise

    def _metrics_log(self, training: TrainState) -> AbstractContextManager[MetricsLog | None]:
        if not self.writes:
            return nullcontext()
        return closing(MetricsLog(self.folder.file("metrics.jsonl"), training.iteration, training.evaluated_at))

    def _finish(self, training: TrainState, metrics: dict[str, Any], detections: list[dict[str, Any]]) -> Result:
        """Writes what a finished run keeps, and closes its mirror."""
        with self.stop.deferred():
            write_json(self.folder.file("detections.json"), detections, indent=None)
            if self.telemetry is not None:
                self.telemetry.save(self.folder.file("sampling.npz"))
            checkpoint.save(self.folder.file("model.pt"), training.evaluated_model.state_dict())
            result = result_of(
                self.folder,
                self.experiment,
                training,
                metrics,
                sampling={} if self.telemetry is None else self.telemetry.summary(),
                mined=self.mining.summary(),
                eval_seconds=self.validation.seconds,
            )
            self.folder.write_result(result)
            if self.settings.keep == "weights":
                self.folder.checkpoint.unlink(missing_ok=True)
        self.tracker.finish(result, self.splits.val, self.annotations, detections)
        return result

    def _train(self, training: TrainState, hooks: Hooks) -> None:
        """To the end, pausing where a sampler mines the training set or an epoch is drawn by the images' losses."""
        order = self._order(training)
        mines = self.mining.resume(training.iteration)
        path = self.folder.checkpoint
        for pause in sorted({*mines, *(step for step in order.pauses if step >= training.iteration)}):
            if training.iteration < pause:
                train(training, self._batches(training, pause), path, hooks, until=pause, stop=self.stop)
            if pause in mines:
                self._mine(training)
            order.plan(pause)
        train(training, self._batches(training), path, hooks, stop=self.stop)

    @staticmethod
    def _order(training: TrainState) -> ImageOrder:
        return cast(ImageOrder, training.saved_parts["image_order"])

    def _batches(self, training: TrainState, until: int | None = None) -> Iterable[Batch]:
        loader = train_loader(
            replace(self.splits, train=self.mining.dataset),
            batch_size=self.settings.batch_size,
            seed=training.streams.data,
            iterations=self.settings.iterations,
            start=training.iteration,
            num_workers=self.settings.num_workers,
            pin_memory=self.device.type == "cuda",
            until=until,
            order=self._order(training).order,
            timeout=self.settings.loading_timeout,
            share=Share(process_rank(), process_count(), self.settings.accumulate),
        )
        return self.lease.noting(watched(loader))

    def _mine(self, training: TrainState) -> None:
        """Stores what the detector wrongly finds in the training images as they are. Its time is time of training."""
        assert self.experiment.mining is not None
        started = time.monotonic()
        # Of all detections of a large training set, only the confident ones fit into memory.
        score_thr = self.experiment.mining.score_thr
        found = self.validation.detect(training.model, self.splits.train, score_thr=score_thr, everywhere=True)
        self.mining.add(training.iteration, found)
        training.seconds += time.monotonic() - started

    def _on_save(self, iteration: int) -> None:
        if self.writes:
            self.folder.set_status(State.RUNNING, iteration=iteration)

    def _evaluate_selected(self, training: TrainState) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Evaluates the last weights, then, where ``run.select`` is best and others were better, those again."""
        metrics, detections = self.validation.evaluate(training.evaluated_model)
        if training.best is None or training.best.offer(training.iteration, metrics["map"], training.evaluated_model):
            return metrics, detections
        training.best.put_into(training.evaluated_model)
        return self.validation.evaluate(training.evaluated_model)
