"""``python -m harness``: compose the configuration, check it, run it. Floor 8; torch is imported only to train."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.app import until_settled
from harness.app.job import INTERRUPTED, STOP_FILE, run_job
from harness.app.parallel import ParallelLauncher
from harness.app.sweep import SweepStopped, end_sweep
from harness.runs import schema
from harness.training.interrupt import StopSignals

TRACE = "HYDRA_FULL_ERROR"
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
    """One job. Returns mAP, what an optimising sweeper maximises."""
    hydra_config = HydraConfig.get()
    choices = {k: v for k, v in hydra_config.runtime.choices.items() if v is not None and not k.startswith("hydra/")}
    sweeping = hydra_config.mode is not None and hydra_config.mode.name == "MULTIRUN"
    job_folder = stop_file = None
    if sweeping:
        job_folder = os.path.join(hydra_config.sweep.dir, str(hydra_config.sweep.subdir))
        stop_file = Path(hydra_config.sweep.dir) / STOP_FILE

    sources = [source.path for source in hydra_config.runtime.config_sources if source.schema == "file"]
    overrides = list(hydra_config.overrides.task)
    outcome = run_job(
        config, choices=choices, overrides=overrides, sources=sources, sweeping=sweeping, stop_file=stop_file
    )
    if job_folder is not None:
        outcome.write(job_folder)
        one_after_another = hydra_config.launcher._target_.endswith(".BasicLauncher")
        if outcome.exit_code == INTERRUPTED and one_after_another:
            (Path(hydra_config.sweep.dir) / STOP_FILE).touch()  # whoever stops one job of a sweep stops the sweep
            raise SweepStopped(Path(hydra_config.sweep.dir), config)
    elif outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    elif config.mode == "check":
        print("this combination can work")
    return outcome.map


def one_line(error: Exception) -> str:
    """The message of a composition error on one line, without Hydra's advice on stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ConfigCompositionException) and error.__cause__ is not None:
        lines += str(error.__cause__).splitlines()[:1]  # "Error merging override" alone does not say what is wrong
    return " ".join(lines)


SHORT_NAMES = {"arm": "experiment/arm", "rung": "experiment/rung"}  # what may be typed for a nested group


def with_full_names(arguments: list[str]) -> list[str]:
    """Command-line arguments with the short names of nested groups written out: ``experiment/arm=`` for ``arm=``."""
    written = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        written.append(f"{SHORT_NAMES[key]}={value}" if equals and key in SHORT_NAMES else argument)
    return written


def _run() -> None:
    try:
        compose_and_run()
    except SweepStopped as stop:
        end_sweep(stop.folder, stop.config)


def main() -> None:
    """The command line."""
    sys.argv[1:] = with_full_names(sys.argv[1:])
    wants_trace = os.environ.get(TRACE) == "1"
    os.environ[TRACE] = "1"  # Hydra then raises instead of printing a page, and the line below is all that is said
    schema.register()
    Plugins.instance().register(SweepFiles)
    until_settled.register()
    Plugins.instance().class_name_to_class[JOBLIB] = ParallelLauncher
    try:
        with StopSignals():
            _run()
    except (HydraException, OmegaConfBaseException, schema.ConfigError) as error:
        if wants_trace:
            raise
        print(f"harness: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        if wants_trace:
            raise
        print("harness: stopped; the same command continues where it was", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
