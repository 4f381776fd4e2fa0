"""One run, in the order of its events: check, open the folder, seed, build, train, evaluate, write, mirror. Floor 6."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.analysis.telemetry import SamplingTelemetry
from harness.compatibility import IncompatibleError
from harness.config import ConfigError, HarnessConfig, RunConfig
from harness.data.export import to_coco
from harness.data.loading import Batch, train_loader, val_loader
from harness.data.records import DataError
from harness.data.splits import Splits
from harness.detectors.equip import equip
from harness.detectors.facts import refusals_for
from harness.environment import describe
from harness.pieces import Pieces, build, build_pieces
from harness.records import Cost, Result, State, whole, write_json
from harness.run_folder import FolderBusyError, MetricsLog, RunFolder, identity
from harness.tracking import Tracker, open_tracker
from harness.training import checkpoint
from harness.training.detect import detect
from harness.training.devices import DeviceLease, choose, peak_memory_mb, set_threads
from harness.training.interrupt import Interrupted
from harness.training.loop import Hooks, Training, train
from harness.training.mining import Mining, Schedule
from harness.training.schedule import learning_rate
from harness.training.streams import Streams

log = logging.getLogger("harness")


class Stopped(Exception):
    """A run that did not finish: refused, failed or interrupted, with one line that says why."""

    def __init__(self, state: State, reason: str, folder: Path | None) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.folder = None if folder is None else str(folder)


@dataclass(frozen=True)
class Finished:
    """A run whose result stands on disk."""

    folder: Path
    map: float | None  # None: the validation split has no object


def run(config: DictConfig, *, choices: Mapping[str, str], sources: Sequence[str]) -> Finished:
    """Runs one configuration to its result, or continues it, or finds it done.

    Args:
        config: the composed configuration (:class:`harness.config.HarnessConfig`).
        choices: group -> option, for the record.
        sources: folders of the configuration search path.

    Raises:
        Stopped: refused, failed or interrupted; the run folder says the same.
    """
    plain = _resolved(config)
    try:
        settings, pieces = check(config, sources)
    except Stopped as refused:
        raise _recorded(State.REFUSED, refused.reason, plain, choices) from refused
    try:
        splits: Splits = build(config.data, "data")
    except (ConfigError, DataError, OSError) as error:
        raise _recorded(State.FAILED, str(error), plain, choices) from error

    for problem in splits.problems:
        log.warning("data: %s", problem)
    path = folder_of(plain, choices, splits.fingerprint)
    try:
        with RunFolder(path) as folder:
            return _in_folder(folder, config, settings, plain, choices, pieces, splits)
    except (FolderBusyError, OSError) as error:
        raise Stopped(State.FAILED, _os_line(error), path) from error


def check(config: DictConfig, sources: Sequence[str]) -> tuple[HarnessConfig, Pieces]:
    """Everything that can be refused before data, detector or device are touched.

    Raises:
        Stopped: refused, with one line a reason.
    """
    try:
        settings: HarnessConfig = OmegaConf.to_object(config)  # type: ignore[assignment]
        settings.check()
        pieces = build_pieces(config, sources)
        schedule_of(pieces)
        builder = dict(config.detector)
        rpn, stages = pieces.rpn_and_others()
        if lines := refusals_for(builder.pop("_target_"), 2, pieces.root, rpn=rpn, stages=stages, **builder):
            raise IncompatibleError("\n".join(lines))
    except (ConfigError, IncompatibleError, ImportError) as error:
        raise Stopped(State.REFUSED, str(error), None) from error
    return settings, pieces


def schedule_of(pieces: Pieces) -> Schedule | None:
    """When the training set is mined: what the sampler of any stage asks for.

    Raises:
        ConfigError: two stages ask for different things.
    """
    return Schedule.of(trio.sampler for trio in (pieces.root, *pieces.stages.values()))


def folder_of(plain: Mapping[str, Any], choices: Mapping[str, str], fingerprint: str) -> Path:
    """``<root>/runs/<name>-<hash>``."""
    name = plain["name"] or "-".join([choices.get("detector", "detector"), choices.get("sampler", "sampler")])
    return Path(plain["run"]["root"]) / "runs" / f"{name}-s{plain['seed']}-{identity(plain, fingerprint)}"


def _resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers.

    Raises:
        Stopped: a value that has no default was not given.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise Stopped(State.REFUSED, f"{', '.join(missing)} must be given: {missing[0]}=...", None)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


def _recorded(state: State, reason: str, plain: Mapping[str, Any], choices: Mapping[str, str]) -> Stopped:
    """Leaves a run folder that says why nothing was trained, so that no combination is silently dropped."""
    path = folder_of(plain, choices, fingerprint="")  # the data was not read
    try:
        with RunFolder(path) as folder:
            _describe(folder, plain, choices)
            folder.say(state, reason)
    except (OSError, FolderBusyError) as error:
        return Stopped(state, f"{reason} (and {_os_line(error)})", None)
    return Stopped(state, reason, path)


def _describe(folder: RunFolder, plain: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    with whole(folder.file("config.yaml")) as file:
        file.write(OmegaConf.to_yaml(OmegaConf.create({**plain, "choices": dict(choices)})))


def _os_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the run folder'}: {error.strerror}"
    return str(error)


def _in_folder(
    folder: RunFolder,
    config: DictConfig,
    settings: HarnessConfig,
    plain: Mapping[str, Any],
    choices: Mapping[str, str],
    pieces: Pieces,
    splits: Splits,
) -> Finished:
    if folder.finished:
        known = folder.result()["metrics"]["map"]
        log.warning("already done: %s (mAP %s)", folder.path, _shown(known))
        return Finished(folder.path, known)
    _describe(folder, plain, choices)
    status = folder.status
    folder.say(State.RUNNING, iteration=status.iteration if status else 0)
    lease = DeviceLease()
    try:
        with open_tracker(settings.tracker, folder.path, dict(plain), dict(choices)) as tracker:
            result = Run(folder, config, settings.run, settings.seed, choices, pieces, splits, tracker, lease).execute()
    except Interrupted as stop:
        raise Stopped(State.INTERRUPTED, f"{stop}; the same command continues it", folder.path) from stop
    except KeyboardInterrupt as stop:
        folder.say(State.INTERRUPTED, "stopped by SIGINT", _saved_iteration(folder))
        raise Stopped(State.INTERRUPTED, "stopped by SIGINT; the same command continues it", folder.path) from stop
    except Exception as error:
        reason = _os_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        folder.file("error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        folder.say(State.FAILED, reason, _saved_iteration(folder))
        raise Stopped(State.FAILED, f"{reason} (traceback in {folder.path}/error.txt)", folder.path) from error
    finally:
        lease.release()
    accuracy = result.metrics
    log.warning("mAP %s, AP50 %s: %s", _shown(accuracy["map"]), _shown(accuracy["map50"]), folder.path)
    return Finished(folder.path, accuracy["map"])


def _saved_iteration(folder: RunFolder) -> int:
    return folder.status.iteration if folder.status else 0


class Run:
    """The events of one run that trains; :meth:`execute` is their order."""

    def __init__(
        self,
        folder: RunFolder,
        config: DictConfig,
        settings: RunConfig,
        seed: int,
        choices: Mapping[str, str],
        pieces: Pieces,
        splits: Splits,
        tracker: Tracker,
        lease: DeviceLease,
    ) -> None:
        self.folder = folder
        self.config = config
        self.settings = settings
        self.seed = seed
        self.choices = choices
        self.pieces = pieces
        self.splits = splits
        self.tracker = tracker
        self.threads = set_threads(settings.threads)
        self.device = choose(settings.device, lease)
        self.telemetry = SamplingTelemetry() if config.analysis.telemetry else None
        self.mining = Mining(
            schedule_of(pieces),
            splits.train,
            folder.file("mined"),
            iterations=settings.iterations,
            batch_size=settings.batch_size,
        )
        self.evaluator = build(config.evaluator, "evaluator")
        self.annotations = to_coco(splits.val)
        self.eval_seconds = 0.0

    def execute(self) -> Result:
        """Builds or continues, trains, evaluates, writes."""
        write_json(self.folder.file("environment.json"), describe(self.device, self.threads))
        self._keep_annotations()
        training = self._build()
        if self.folder.checkpoint.exists():
            training.load_state_dict(checkpoint.load(self.folder.checkpoint))
            log.info("continues %s at iteration %d", self.folder.path, training.iteration)
        metrics_log = MetricsLog(self.folder.file("metrics.jsonl"), training.iteration)

        def on_log(iteration: int, values: dict[str, float]) -> None:
            metrics_log.append({"iteration": iteration, **values})
            self.tracker.log(iteration, {_wandb_key(name): value for name, value in values.items()})
            if self.telemetry is not None:
                self.tracker.log_sampling(iteration, self.telemetry.close_window(iteration))

        def on_eval(iteration: int) -> None:
            metrics, _ = self._evaluate(training)
            scalars = {f"eval/{name}": metrics[name] for name in ("map", "map50", "map75")}
            metrics_log.append({"iteration": iteration, **scalars})
            self.tracker.log(iteration, scalars)

        try:
            self._train(training, Hooks(on_log, on_eval, self._on_save))
        except Interrupted as stop:
            self.folder.say(State.INTERRUPTED, str(stop), training.iteration)
            raise
        finally:
            metrics_log.close()

        metrics, detections = self._evaluate(training)
        write_json(self.folder.file("detections.json"), detections, indent=None)
        if self.telemetry is not None:
            self.telemetry.save(self.folder.file("sampling.npz"))
        result = self._result(training, metrics)
        self.folder.write_result(result)
        self.tracker.finish(result, self.splits.val, self.annotations, detections)
        return result

    def _train(self, training: Training, hooks: Hooks) -> None:
        """To the end; where a sampler mines, in rounds with the training set mined between them."""
        for stop in self.mining.resume(training.iteration):
            if training.iteration < stop:
                train(training, self._batches(training), self.folder.checkpoint, hooks, until=stop)
            self._mine(training)
        train(training, self._batches(training), self.folder.checkpoint, hooks)

    def _batches(self, training: Training) -> Iterable[Batch]:
        return train_loader(
            replace(self.splits, train=self.mining.dataset),
            batch_size=self.settings.batch_size,
            seed=training.streams.data,
            iterations=self.settings.iterations,
            start=training.iteration,
            num_workers=self.settings.num_workers,
            pin_memory=self.device.type == "cuda",
        )

    def _mine(self, training: Training) -> None:
        """Stores what the detector wrongly finds in the training images as they are. Its time is time of training."""
        started = time.monotonic()
        batches = val_loader(
            self.splits.train, batch_size=self.settings.batch_size, num_workers=self.settings.num_workers
        )
        # Batch by batch: of all detections of a large training set, only the confident ones fit into memory.
        parts = (detect(training.model, [batch], self.device, self.settings.precision) for batch in batches)
        self.mining.add(training.iteration, (row for rows in parts for row in rows))
        training.seconds += time.monotonic() - started

    def _build(self) -> Training:
        streams = Streams(self.seed, self.device)
        torch.manual_seed(streams.weights)
        plain = build(self.config.detector, "detector", num_classes=len(self.splits.classes) + 1).to(self.device)
        if self.settings.channels_last:
            plain = plain.to(memory_format=torch.channels_last)
        rpn, stages = self.pieces.rpn_and_others()
        model = equip(
            plain,
            self.pieces.root.assigner,
            self.pieces.root.sampler,
            self.pieces.root.loss,
            rpn=rpn,
            stages=stages,
            generator=streams.sampling,
            shadows=self.pieces.shadows,
            shadow_generator=streams.shadow,
            observers=[] if self.telemetry is None else [self.telemetry],
            loss_observers=[] if self.telemetry is None else [self.telemetry.add_losses],
        )
        optimizer = build(self.config.optimizer, "optimizer")([p for p in model.parameters() if p.requires_grad])
        ema = None
        if self.settings.ema_decay is not None:
            ema = AveragedModel(plain, multi_avg_fn=get_ema_multi_avg_fn(self.settings.ema_decay), use_buffers=True)
        torch.manual_seed(streams.steps)
        return Training(
            model=model,
            optimizer=optimizer,
            schedule=learning_rate(optimizer, self.settings.iterations, **dict(self.config.schedule)),
            streams=streams,
            device=self.device,
            config=self.settings,
            ema=ema,
            saved_parts={} if self.telemetry is None else {"telemetry": self.telemetry},
        )

    def _keep_annotations(self) -> None:
        """Leaves what the detections are measured against beside the runs, once for all runs on this data."""
        path = Path(self.settings.root) / "annotations" / f"{self.splits.fingerprint}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, self.annotations, indent=None)

    def _on_save(self, iteration: int) -> None:
        self.folder.say(State.RUNNING, iteration=iteration)

    def _evaluate(self, training: Training) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        started = time.monotonic()
        model = training.model if training.ema is None else training.ema.module
        batches = val_loader(
            self.splits.val, batch_size=self.settings.batch_size, num_workers=self.settings.num_workers
        )
        detections = detect(model, batches, self.device, self.settings.precision)
        metrics = self.evaluator(self.annotations, detections).to_dict()
        self.eval_seconds += time.monotonic() - started
        return metrics, detections

    def _result(self, training: Training, metrics: dict[str, Any]) -> Result:
        images = training.iteration * self.settings.batch_size
        return Result(
            run=self.folder.path.name,
            hash=self.folder.path.name.rpartition("-")[2],
            seed=self.seed,
            choices=dict(self.choices),
            metrics=metrics,
            sampling={} if self.telemetry is None else self.telemetry.summary(),
            data={
                "name": self.choices.get("data", ""),
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
                eval_seconds=self.eval_seconds,
                images_per_second=images / max(training.seconds, 1e-9),
                peak_memory_mb=peak_memory_mb(self.device),
                sessions=training.sessions,
            ),
            extra=self.mining.summary(),
        )


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _wandb_key(name: str) -> str:
    return "train/lr" if name == "lr" else f"train/loss/{name.removeprefix('loss_')}"
