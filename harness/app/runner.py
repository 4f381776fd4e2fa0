"""From an experiment to a run folder: open it, train or find it done, and say in it how it ended."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from harness.app.naming import folder_of
from harness.app.run_end import Finished, Stopped, failed, leave_status, os_line, saved_iteration, shown
from harness.app.training_run import TrainingRun
from harness.app.writable import NOT_WRITABLE, check_writable
from harness.core.processes import broadcast_object, process_rank
from harness.data.records import DataError
from harness.data.summary import log_splits
from harness.experiment.experiment import Experiment, RefusedError
from harness.runs import launched
from harness.runs.folder import FolderBusyError, RunFolder
from harness.runs.integrity import DamagedFileError
from harness.runs.records import State, atomic_write
from harness.runs.schema import ConfigError
from harness.tracking import NoTracker, complete_mirror, open_tracker
from harness.training.interrupt import Interrupted, StopSignals
from harness.training.leases import DeviceLease
from harness.training.process_group import joined

log = logging.getLogger("harness")


def run(
    config: DictConfig,
    *,
    choices: Mapping[str, str],
    sources: Sequence[str],
    overrides: Sequence[str] = (),
    stop: StopSignals | None = None,
) -> Finished:
    """Runs one configuration to its result, or continues it, or finds it done.

    Args:
        config: the composed configuration (:class:`harness.runs.schema.HarnessConfig`).
        choices: group -> option, for the record.
        sources: folders of the configuration search path.
        overrides: the run's part of the command line, for its name.
        stop: what may ask the run to stop; ``None``: nothing.

    Raises:
        Stopped: refused, failed, interrupted or running in another process.
        KeyboardInterrupt: a signal came before the run folder was opened.
    """
    finished = run_experiment(check(config, sources, choices=choices, overrides=overrides), stop)
    log.warning("%s", finished.line)
    return finished


def check(
    config: DictConfig,
    sources: Sequence[str],
    *,
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> Experiment:
    """The experiment of a configuration, once everything is checked that needs neither data nor weights.

    Raises:
        Stopped: refused, with one line per reason.
    """
    try:
        return Experiment.compose(config, choices=choices or {}, sources=sources, overrides=overrides)
    except RefusedError as error:
        raise Stopped(State.REFUSED, str(error)) from error


def check_data(experiment: Experiment) -> None:
    """Looks whether the files of the data are there, and reads none of the annotations.

    Raises:
        Stopped: refused, as the run would be, or a folder that cannot be looked into.
    """
    try:
        experiment.look_for_data()
    except ConfigError as error:
        raise Stopped(State.REFUSED, str(error)) from error
    except OSError as error:
        raise Stopped(State.FAILED, os_line(error)) from error


def run_experiment(experiment: Experiment, stop: StopSignals | None = None) -> Finished:
    """Runs an experiment to its result, or continues it, or finds it done: here, or in ``run.devices`` processes.

    Of the processes that a launcher started, the first one answers for all; the others return an empty answer.

    Args:
        experiment: checked; its data are read here.
        stop: what may ask the run to stop; ``None``: nothing.

    Raises:
        Stopped: its data are refused or cannot be read, its training failed, was interrupted or runs elsewhere.
        KeyboardInterrupt: a signal came before the run folder was opened.
    """
    stop = stop or StopSignals()
    run = experiment.settings.run
    if run.devices > launched.processes():
        from harness.app.workers import run_in_workers  # torch's launch takes half a second to import

        return run_in_workers(experiment, stop)
    with joined(run.device):
        return _follow(experiment, stop) if process_rank() else _lead(experiment, stop)


def _lead(experiment: Experiment, stop: StopSignals) -> Finished:
    """Runs the experiment as the only process or the first one."""
    path, others = None, _Others()
    try:
        check_writable(Path(experiment.settings.run.root), experiment.settings.seed)
        splits = experiment.splits
        log_splits(splits)
        for problem in splits.problems:
            log.warning("data: %s", problem)
        path = folder_of(experiment, splits.fingerprint)
        with RunFolder(path) as folder:
            return _in_folder(folder, experiment, stop, others)
    except FolderBusyError as error:
        raise Stopped(State.RUNNING, f"running elsewhere: {error}", path) from error
    except (ConfigError, DataError) as error:
        if path is not None and not (path / "checkpoint.pt").exists():
            shutil.rmtree(path, ignore_errors=True)  # what is refused leaves no run behind
        raise Stopped(State.REFUSED, str(error)) from error
    except (DamagedFileError, OSError) as error:
        with suppress(DamagedFileError, OSError):  # a folder that cannot be written may hold the result
            known = _known_result(RunFolder(path), experiment) if path is not None else None
            if known is not None and isinstance(error, OSError) and error.errno in NOT_WRITABLE:
                return known
        raise Stopped(State.FAILED, os_line(error), path) from error
    finally:
        others.dismiss()


class _Others:
    """The other processes of a run: they wait until the first one has read the data and knows what is to do."""

    def __init__(self) -> None:
        self._told = False

    def begin(self, folder: Path) -> None:
        """They train in ``folder``."""
        broadcast_object(str(folder))
        self._told = True

    def dismiss(self) -> None:
        """There is nothing to do for those that still wait."""
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # one of them is not there any more; why, is said elsewhere
                broadcast_object("")


def _follow(experiment: Experiment, stop: StopSignals) -> Finished:
    """Trains as one of the processes that are not the first. They write nothing but the traceback of their end."""
    path = broadcast_object("")
    if not path:
        return Finished(Path(), None)
    folder = RunFolder(Path(path))
    lease = DeviceLease(folder.path.name)
    try:
        TrainingRun(folder, experiment, NoTracker(), lease, stop).execute()
    except (KeyboardInterrupt, Interrupted) as end:
        raise Stopped(State.INTERRUPTED, f"stopped by {str(end) or 'SIGINT'}", folder.path) from end
    except Exception as error:
        raise failed(folder, error) from error
    finally:
        lease.release()
    return Finished(folder.path, None)


def _in_folder(folder: RunFolder, experiment: Experiment, stop: StopSignals, others: _Others) -> Finished:
    settings = experiment.settings
    if (known := _known_result(folder, experiment)) is not None:
        complete_mirror(settings.tracker, folder.path, experiment.splits.val)
        return known
    _write_config(folder, experiment)
    folder.set_status(State.RUNNING, iteration=saved_iteration(folder))
    lease = DeviceLease(folder.path.name)
    try:
        with open_tracker(settings.tracker, folder.path, dict(experiment.plain), dict(experiment.choices)) as tracker:
            others.begin(folder.path)
            result = TrainingRun(folder, experiment, tracker, lease, stop).execute()
    except Interrupted as end:
        raise Stopped(State.INTERRUPTED, f"{end}; the same command continues it", folder.path) from end
    except KeyboardInterrupt as request:
        said = f"stopped by {str(request) or 'SIGINT'}"
        if folder.status is not None and folder.status.state is State.DONE:
            raise Stopped(State.INTERRUPTED, f"{said} after the result was written", folder.path) from request
        unwritten = leave_status(folder, State.INTERRUPTED, said)
        line = f"{said}; the same command continues it{unwritten}"
        raise Stopped(State.INTERRUPTED, line, folder.path) from request
    except ConfigError as error:
        leave_status(folder, State.REFUSED, str(error))
        raise
    except Exception as error:
        raise failed(folder, error) from error
    finally:
        lease.release()
    assert result is not None
    accuracy = result.metrics
    line = f"mAP {shown(accuracy['map'])}, AP50 {shown(accuracy['map50'])}: {folder.path}"
    return Finished(folder.path, accuracy["map"], line)


def _known_result(folder: RunFolder, experiment: Experiment) -> Finished | None:
    """What an earlier process left in the folder as this experiment's result; None where there is none."""
    if not folder.finished:
        return None
    accuracy = folder.result()["metrics"]["map"]
    own = " with your code and weights as they are now" if experiment.settings.code else ""
    line = f"already done{own} (run.again=true trains it anew): mAP {shown(accuracy)}: {folder.path}"
    return Finished(folder.path, accuracy, line, known=True)


def _write_config(folder: RunFolder, experiment: Experiment) -> None:
    with atomic_write(folder.file("config.yaml")) as file:
        file.write(OmegaConf.to_yaml(OmegaConf.create({**experiment.plain, "choices": dict(experiment.choices)})))
