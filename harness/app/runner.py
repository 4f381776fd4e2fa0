"""From a configuration to a run folder: check, open it, train or find it done, and say in it how it ended. Floor 6."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from harness.app.pieces import Pieces, build, build_pieces
from harness.app.training_run import TrainingRun
from harness.core.compatibility import IncompatibleError
from harness.data.records import DataError
from harness.data.splits import Splits
from harness.detectors.facts import extra_targets, num_keypoints, refusals_for, sketch
from harness.runs.folder import FolderBusyError, RunFolder
from harness.runs.identity import config_hash
from harness.runs.integrity import DamagedFileError
from harness.runs.records import State, atomic_write
from harness.runs.schema import ConfigError, HarnessConfig
from harness.tracking import open_tracker
from harness.training.checkpoint import CheckpointError, NonFiniteWeightsError
from harness.training.devices import DeviceLease
from harness.training.interrupt import Interrupted, StopSignals
from harness.training.loop import NonFiniteLossError
from harness.training.mining import mining_plan

log = logging.getLogger("harness")


# Faults of the world that are foreseen: their message says all, so no traceback is kept.
SAID_PLAINLY = (CheckpointError, DamagedFileError, NonFiniteLossError, NonFiniteWeightsError)


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


def run(
    config: DictConfig, *, choices: Mapping[str, str], sources: Sequence[str], stop: StopSignals | None = None
) -> Finished:
    """Runs one configuration to its result, or continues it, or finds it done.

    Args:
        config: the composed configuration (:class:`harness.runs.schema.HarnessConfig`).
        choices: group -> option, for the record.
        sources: folders of the configuration search path.
        stop: what may ask the run to stop; ``None``: nothing.

    Raises:
        Stopped: refused, failed, interrupted or running in another process; the run folder says the same.
        KeyboardInterrupt: a signal came before the run folder was opened.
    """
    plain = _resolved(config)
    try:
        settings, pieces = check(config, sources)
    except Stopped as refused:
        raise _recorded(State.REFUSED, refused.reason, plain, choices) from refused
    try:
        splits: Splits = build(config.data, "data")
        detector = dict(config.detector)
        model = sketch(detector.pop("_target_"), len(splits.classes) + 1, **detector)
        splits = splits.yielding(extra_targets(model), num_keypoints(model))
    except (ConfigError, DataError, OSError) as error:
        raise _recorded(State.FAILED, str(error), plain, choices) from error

    for problem in splits.problems:
        log.warning("data: %s", problem)
    path = folder_of(plain, choices, splits.fingerprint)
    try:
        with RunFolder(path) as folder:
            return _in_folder(folder, config, settings, plain, choices, pieces, splits, stop or StopSignals())
    except FolderBusyError as error:
        raise Stopped(State.RUNNING, f"running elsewhere: {error}", path) from error
    except (DamagedFileError, OSError) as error:
        raise Stopped(State.FAILED, _os_line(error), path) from error


def check(config: DictConfig, sources: Sequence[str]) -> tuple[HarnessConfig, Pieces]:
    """Everything that can be refused before data, detector or device are touched.

    Raises:
        Stopped: refused, with one line per reason.
    """
    try:
        _check_fit(config)
        settings: HarnessConfig = OmegaConf.to_object(config)  # type: ignore[assignment]
        settings.check()
        pieces = build_pieces(config, sources)
        mining_plan(pieces.samplers)
        build(config.evaluator, "evaluator")
        _check_optimizer(config)
        if config.data.get("augment") is not None:
            build(config.data.augment, "data.augment")
        builder = dict(config.detector)
        if lines := refusals_for(builder.pop("_target_"), pieces.root, pieces.stages, **builder):
            raise IncompatibleError("\n".join(lines))
    except (ConfigError, IncompatibleError, ImportError) as error:
        raise Stopped(State.REFUSED, str(error), None) from error
    return settings, pieces


def _check_fit(config: DictConfig) -> None:
    """A recipe names the detectors that it is made for, by their builders, which are called like their options."""
    fits, builder = config.get("recipe_fits"), config.detector["_target_"].rpartition(".")[2]
    if fits is not None and builder not in fits:
        raise IncompatibleError(
            f"the recipe is made for other detectors than {builder}; choose one of detector={', '.join(fits)}, "
            f"or recipe_fits=null to try it nevertheless"
        )


def _check_optimizer(config: DictConfig) -> None:
    """torch refuses an optimiser's values when it gets parameters, which the run has late."""
    make = build(config.optimizer, "optimizer")
    try:
        make([torch.nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {error}") from error


def folder_of(plain: Mapping[str, Any], choices: Mapping[str, str], fingerprint: str) -> Path:
    """``<root>/runs/<name>-<hash>``."""
    name = plain["name"] or "-".join([choices.get("detector", "detector"), choices.get("sampler", "sampler")])
    return Path(plain["run"]["root"]) / "runs" / f"{name}-s{plain['seed']}-{config_hash(plain, fingerprint)}"


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
            _write_config(folder, plain, choices)
            folder.set_status(state, reason)
    except (OSError, FolderBusyError) as error:
        return Stopped(state, f"{reason} (and {_os_line(error)})", None)
    return Stopped(state, reason, path)


def _write_config(folder: RunFolder, plain: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    with atomic_write(folder.file("config.yaml")) as file:
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
    stop: StopSignals,
) -> Finished:
    if folder.finished:
        known = folder.result()["metrics"]["map"]
        log.warning("already done: %s (mAP %s)", folder.path, _shown(known))
        return Finished(folder.path, known)
    _write_config(folder, plain, choices)
    status = folder.status
    folder.set_status(State.RUNNING, iteration=status.iteration if status else 0)
    lease = DeviceLease()
    try:
        with open_tracker(settings.tracker, folder.path, dict(plain), dict(choices)) as tracker:
            result = TrainingRun(folder, config, settings, choices, pieces, splits, tracker, lease, stop).execute()
    except Interrupted as end:
        raise Stopped(State.INTERRUPTED, f"{end}; the same command continues it", folder.path) from end
    except KeyboardInterrupt as request:
        said = f"stopped by {str(request) or 'SIGINT'}"
        if folder.status is not None and folder.status.state is State.DONE:
            raise Stopped(State.INTERRUPTED, f"{said} after the result was written", folder.path) from request
        folder.set_status(State.INTERRUPTED, said, _saved_iteration(folder))
        raise Stopped(State.INTERRUPTED, f"{said}; the same command continues it", folder.path) from request
    except SAID_PLAINLY as error:
        folder.set_status(State.FAILED, str(error), _saved_iteration(folder))
        raise Stopped(State.FAILED, str(error), folder.path) from error
    except Exception as error:
        reason = _os_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        folder.file("error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        folder.set_status(State.FAILED, reason, _saved_iteration(folder))
        raise Stopped(State.FAILED, f"{reason} (traceback in {folder.path}/error.txt)", folder.path) from error
    finally:
        lease.release()
    accuracy = result.metrics
    log.warning("mAP %s, AP50 %s: %s", _shown(accuracy["map"]), _shown(accuracy["map50"]), folder.path)
    return Finished(folder.path, accuracy["map"])


def _saved_iteration(folder: RunFolder) -> int:
    return folder.status.iteration if folder.status else 0


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
