"""The events of one run that trains: seed, build or continue, train, evaluate, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.app.validation import Validation
from harness.core.processes import alone, broadcast_object, process_count, process_rank
from harness.data.class_counts import class_counts
from harness.data.export import to_coco
from harness.data.loading import Batch, Share, train_loader, val_loader
from harness.detectors.adapters.mixing import plain_module
from harness.detectors.adapters.padding import share_padding
from harness.detectors.equip import equip
from harness.experiment.experiment import Experiment
from harness.runs.environment import describe
from harness.runs.folder import RunFolder
from harness.runs.integrity import file_digest
from harness.runs.metrics_log import MetricsLog
from harness.runs.records import Cost, Result, State, read_json, write_json
from harness.telemetry.recorder import SamplingTelemetry
from harness.tracking import Tracker
from harness.training import checkpoint
from harness.training.batches import watched
from harness.training.compiled import compile_networks
from harness.training.devices import choose, peak_memory_mb, set_threads
from harness.training.guard import measure
from harness.training.image_order import ImageOrder
from harness.training.interrupt import Interrupted, StopSignals
from harness.training.leases import DeviceLease
from harness.training.loop import Hooks, train
from harness.training.mining import Mining
from harness.training.process_group import synchronize_batch_norm
from harness.training.schedule import lr_scheduler
from harness.training.selection import BestWeights
from harness.training.state import TrainState
from harness.training.streams import Streams

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
            self._keep_annotations()
        training = self._build()
        if broadcast_object(self.folder.checkpoint.exists()):
            training.load_state_dict(checkpoint.load(self.folder.checkpoint))
            log.info("continues %s at iteration %d", self.folder.path, training.iteration)
        elif self.writes:
            with alone():
                if self.settings.rehearse:
                    self.validation.rehearse(training.model)
                if self.guard_images:
                    self._guard(training.model)
        if process_count() > 1 and self.device.type == "cuda":
            synchronize_batch_norm(training.model)
        self._train_and_log(training)
        metrics, detections = self._evaluate_selected(training)
        return self._finish(training, metrics, detections) if self.writes else None

    def _train_and_log(self, training: TrainState) -> None:
        with self._metrics_log(training) as metrics_log:

            def record(iteration: int, values: dict[str, float]) -> None:
                if metrics_log is not None:
                    metrics_log.append({"iteration": iteration, **values})
                self.tracker.log(iteration, values)

            def on_log(iteration: int, values: dict[str, float]) -> None:
                record(iteration, values)
                if self.telemetry is not None:
                    self.tracker.log_sampling(iteration, self.telemetry.close_window(iteration))

            def on_eval(iteration: int) -> None:
                metrics, _ = self.validation.evaluate(training.evaluated_model)
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
            result = self._result(training, metrics)
            self.folder.write_result(result)
            if self.settings.keep == "weights":
                self.folder.checkpoint.unlink(missing_ok=True)
        self.tracker.finish(result, self.splits.val, self.annotations, detections)
        return result

    def _guard(self, model: nn.Module) -> None:
        """Measures what the combination does to the first training images, and warns where it is broken."""
        plain = plain_module(model)
        measured = measure(
            replace(self.experiment.pieces.copy(), shadows={}).equip(
                plain, Streams(self.experiment.settings.seed, self.device), class_counts=class_counts(self.splits.train)
            ),
            equip(plain),
            val_loader(self.splits.train, batch_size=self.settings.batch_size, num_workers=0),
            self.device,
            self.settings.precision,
            self.guard_images,
        )
        write_json(self.folder.file("guard.json"), asdict(measured))
        for line in measured.warnings:
            log.warning("%s", line)

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

    def _build(self) -> TrainState:
        streams = Streams(self.experiment.settings.seed, self.device)
        plain = self.experiment.detector(streams, self.splits.classes).to(self.device)
        if self.settings.channels_last:
            plain = plain.to(memory_format=torch.channels_last)
        order = ImageOrder(
            self.experiment.pieces.image_sampler,
            self.splits.train,
            streams.data,
            batch_size=self.settings.batch_size,
            iterations=self.settings.iterations,
            device=self.device,
        )
        telemetry = [] if self.telemetry is None else [self.telemetry.add_losses]
        model = self.experiment.pieces.equip(
            plain,
            streams,
            observers=[] if self.telemetry is None else [self.telemetry],
            loss_observers=[*telemetry, order.add_losses] if order.pauses else telemetry,
            class_counts=class_counts(self.splits.train),
        )
        if self.settings.compile:
            compile_networks(model)
        order.watch(model)
        if process_count() > 1:
            share_padding(model)
        optimizer = self.experiment.optimizer(p for p in model.parameters() if p.requires_grad)
        ema = None
        if self.settings.ema_decay is not None:
            ema = AveragedModel(plain, multi_avg_fn=get_ema_multi_avg_fn(self.settings.ema_decay), use_buffers=True)
        torch.manual_seed(streams.steps)
        return TrainState(
            model=model,
            optimizer=optimizer,
            schedule=lr_scheduler(optimizer, self.settings.iterations, self.experiment.settings.schedule),
            streams=streams,
            device=self.device,
            config=self.settings,
            ema=ema,
            best=BestWeights() if self.settings.select == "best" else None,
            saved_parts={"image_order": order} | ({} if self.telemetry is None else {"telemetry": self.telemetry}),
        )

    def _keep_annotations(self) -> None:
        """Leaves what the detections are measured against beside the runs, once for all runs on this data."""
        path = Path(self.settings.root) / "annotations" / f"{self.splits.fingerprint}.json"
        try:
            read_json(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self.annotations, indent=None)
        except ValueError as error:
            log.warning("%s; it is written again", error)
            write_json(path, self.annotations, indent=None)

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

    def _result(self, training: TrainState, metrics: dict[str, Any]) -> Result:
        images = training.iteration * self.settings.batch_size
        return Result(
            run=self.folder.path.name,
            hash=self.experiment.hash_on(self.splits.fingerprint),
            seed=self.experiment.settings.seed,
            choices=dict(self.experiment.choices),
            metrics=metrics,
            sampling={} if self.telemetry is None else self.telemetry.summary(),
            data={
                "name": self.experiment.choices.get("data", ""),
                "fingerprint": self.splits.fingerprint,
                "classes": list(self.splits.classes),
                "train_images": len(self.splits.train),
                "val_images": len(self.splits.val),
                "problems": [asdict(problem) for problem in self.splits.problems],
            },
            iterations=training.iteration,
            images=images,
            parameters=sum(p.numel() for p in training.model.parameters() if p.requires_grad),
            cost=Cost(
                train_seconds=training.seconds,
                eval_seconds=self.validation.seconds,
                images_per_second=images / max(training.seconds, 1e-9),
                peak_memory_mb=peak_memory_mb(self.device),
                sessions=training.sessions,
                processes=process_count(),
            ),
            files={"detections.json": file_digest(self.folder.file("detections.json"))},
            extra={**self.mining.summary(), **self._selected(training), **self._measured(training.model)},
        )

    def _selected(self, training: TrainState) -> dict[str, Any]:
        """Which weights the result is of, where they were chosen by their mAP on the validation split."""
        best = training.best
        return {} if best is None else {"selected": {"iteration": best.iteration or training.iteration, "by": "map"}}

    def _measured(self, model: nn.Module) -> dict[str, Any]:
        """What the guard has seen before the first step, and by how much the losses were scaled."""
        found: dict[str, Any] = {}
        path = self.folder.file("guard.json")
        if path.exists():
            found["guard"] = read_json(path)
        factors: dict[str, dict[str, float]] = model.loss_factors()  # type: ignore[operator]
        if factors:
            found["loss_factors"] = factors
        return found
