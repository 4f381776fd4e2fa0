"""What is looked at: a configuration as a run composes it, or the folder of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from harness.app import composition
from harness.app.arguments import rewritten
from harness.app.naming import folder_of
from harness.app.runner import check
from harness.data.splits import Splits
from harness.experiment.experiment import Experiment
from harness.experiment.pieces import build
from harness.experiment.stored import stored_config
from harness.runs import schema


@dataclass(frozen=True)
class Setting:
    """A composed configuration."""

    config: DictConfig
    choices: dict[str, str]  # group -> option
    sources: list[str]  # folders of the configuration search path
    folder: Path | None = None  # of the run, where one was named
    overrides: tuple[str, ...] = ()

    def run_folder(self, splits: Splits) -> Path:
        """Where this configuration's run is, or would be."""
        if self.folder is not None:
            return self.folder
        return folder_of(self.experiment, splits.fingerprint)

    @cached_property
    def experiment(self) -> Experiment:
        """The checked experiment.

        Raises:
            harness.app.run_end.Stopped: the combination is refused.
        """
        return check(self.config, self.sources, choices=self.choices, overrides=self.overrides)


def composed(overrides: Sequence[str], config_dir: str | None = None) -> Setting:
    """The setting of ``python -m harness <overrides>``.

    Args:
        overrides: as of a run.
        config_dir: a folder of the user's own options, as ``--config-dir`` of a run.

    Raises:
        hydra.errors.HydraException: an override that cannot be composed.
    """
    own = None if config_dir is None else Path(config_dir).resolve()
    overrides = rewritten(overrides, own)
    config, choices = composition.composed(overrides, own)
    sources = [str(folder) for folder in (schema.folder("conf"), own) if folder is not None]
    return Setting(config, choices, sources, overrides=tuple(overrides))


def of_folder(folder: Path, trusted: Sequence[str] = ()) -> Setting:
    """The setting of a run folder; arguments and errors as of :func:`harness.experiment.stored.stored_config`."""
    config, choices = stored_config(folder, trusted)
    return Setting(config, choices, [str(schema.folder("conf"))], folder)


def splits_of(setting: Setting) -> Splits:
    """The data, without what is wrong with it: problems are to be seen, not to stop the look.

    Raises:
        harness.data.records.DataError: nothing is left to look at.
    """
    data = setting.config.data.copy()
    if "on_bad" in data:
        data.on_bad = "drop"
    splits: Splits = build(data, "data")
    return splits
