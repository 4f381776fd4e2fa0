"""Hydra's part of the command line: composes one job or a sweep, and says in one line what cannot be composed."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.app import left_out, ray_launcher, submitit_launcher, until_settled
from harness.app.arguments import conflict
from harness.app.composition import keys_without
from harness.app.job import INTERRUPTED, STOP_FILE, Job, run_job
from harness.app.parallel import ParallelLauncher
from harness.app.sweep import SweepStopped, end_broken_sweep, end_sweep, foreign_sweeper
from harness.experiment.names import explained
from harness.runs import schema
from harness.training.interrupt import StopSignals

TRACE = "HYDRA_FULL_ERROR"
SAID_PLAINLY = (HydraException, OmegaConfBaseException, schema.ConfigError, OSError)  # the message says all
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"

# Hydra 1.4 says at every start that version_base will go and that a `_target_` can be any callable. The second is what
# makes a user's own class an option here; the first has no form that suits 1.3 and 1.4 both.
warnings.filterwarnings("ignore", message=r"\s*The version_base parameter is deprecated")
warnings.filterwarnings("ignore", message=r"\s*hydra.utils.instantiate\(\) resolved _target_")


class SweepFiles(SearchPathPlugin):
    """Lets ``-cn libra`` find ``sweeps/libra.yaml``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="harness-sweeps", path=f"file://{schema.folder('sweeps')}")


@hydra.main(version_base="1.3", config_path=str(schema.folder("conf")), config_name="config")
def compose_and_run(config: DictConfig) -> float | None:
    """One job. Returns mAP, what an optimizing sweeper maximizes; 0 in a check, which measures nothing."""
    job = Job.of(HydraConfig.get())
    outcome = run_job(config, job)
    if job.folder is not None:
        outcome.write(job.folder)
        if outcome.exit_code == INTERRUPTED and job.alone and job.sweep is not None:
            folder = Path(job.sweep.folder)
            (folder / STOP_FILE).touch()  # whoever stops one job of a sweep stops the sweep
            raise SweepStopped(folder, config)
    elif outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    return 0.0 if config.mode == "check" else outcome.map


def _run(wants_trace: bool = False) -> None:
    try:
        compose_and_run()
    except SweepStopped as stop:
        end_sweep(stop.folder, stop.config)
    except Exception as error:
        foreign, plain = foreign_sweeper(), isinstance(error, SAID_PLAINLY)
        ended = end_broken_sweep()
        if wants_trace or (plain and not ended) or not (plain or foreign):
            raise
        said = " ".join(str(error).split())
        if not plain:
            said = f"{foreign}: {type(error).__name__}: {said} ({TRACE}=1 shows where)"
        print(f"harness: failed: the sweep ended early: {said}", file=sys.stderr)
        raise SystemExit(1) from error


def register_plugins() -> None:
    """Makes this package's search path, sweeper and launchers known to Hydra."""
    Plugins.instance().register(SweepFiles)
    Plugins.instance().class_name_to_class[JOBLIB] = ParallelLauncher
    for plugin in (left_out, until_settled, submitit_launcher, ray_launcher):
        plugin.register()


def start(arguments: Sequence[str], own: Path | None = None) -> None:
    """Runs Hydra on the arguments.

    Args:
        arguments: of the command line, rewritten.
        own: a folder of the user's own options, as of ``--config-dir``; for suggestions.

    Raises:
        SystemExit: with the code of what went wrong, which one line on standard error names.
    """
    if line := conflict(arguments):
        print(f"harness: {line}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv[1:] = arguments
    wants_trace = os.environ.get(TRACE) == "1"
    os.environ[TRACE] = "1"  # Hydra then raises instead of printing a page, and the line below is all that is said
    schema.register()
    register_plugins()
    try:
        with StopSignals():
            _run(wants_trace)
    except SAID_PLAINLY as error:
        if wants_trace:
            raise
        if isinstance(error, OSError) and not isinstance(error, HydraException):
            print(f"harness: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
            raise SystemExit(1) from None
        print(f"harness: {explained(error, lambda: keys_without(arguments, own))}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if wants_trace:
            raise
        print("harness: stopped; the same command continues where it was", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
