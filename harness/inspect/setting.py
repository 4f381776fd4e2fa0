"""What is looked at: a configuration as a run composes it, or the folder of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.app import composition
from harness.app.arguments import rewritten
from harness.app.naming import folder_of
from harness.app.runner import check
from harness.data.splits import Splits
from harness.experiment.experiment import Experiment
from harness.experiment.pieces import build
from harness.runs import schema
from harness.runs.schema import ConfigError, HarnessConfig


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
    """The setting of a run folder.

    A stranger's ``config.yaml`` could name any function of any installed package as a ``_target_``. Only those that
    are options of ``conf/`` are accepted, and what the user trusts.

    Args:
        folder: of the run.
        trusted: further modules whose classes may be instantiated, such as ``my_samplers``.

    Raises:
        FileNotFoundError: it holds no ``config.yaml``.
        ConfigError: that file is damaged, or names a target that is not accepted; the line names it.
    """
    path = folder / "config.yaml"
    try:
        stored = OmegaConf.load(path)
        plain = OmegaConf.to_container(stored)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__})") from error
    if not isinstance(stored, DictConfig):
        raise ConfigError(f"{path} is not a run's configuration")
    known = set(_targets_of_options())
    for key, target in _targets(plain, ""):
        if target not in known and not any(target.startswith(f"{module}.") for module in trusted):
            module = str(target).rpartition(".")[0] or target
            raise ConfigError(f"{path}: {key}={target!r} is no option of conf/; --trust {module} accepts it")
    choices = OmegaConf.to_container(stored.pop("choices", OmegaConf.create({})))
    config = OmegaConf.merge(OmegaConf.structured(HarnessConfig), stored)
    assert isinstance(config, DictConfig)
    return Setting(config, dict(choices), [str(schema.folder("conf"))], folder)  # type: ignore[arg-type]


def _targets(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` below a node of plain containers, with its key."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "_target_":
                yield f"{prefix}{name}", value
            else:
                yield from _targets(value, f"{prefix}{name}.")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _targets(value, f"{prefix}{index}.")


def _targets_of_options() -> Iterator[Any]:
    """The targets that the YAML files of ``conf/`` name."""
    for file in schema.folder("conf").rglob("*.yaml"):
        for _, target in _targets(OmegaConf.to_container(OmegaConf.load(file)), ""):
            yield target


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
