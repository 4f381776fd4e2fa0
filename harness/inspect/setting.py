"""What is looked at: a configuration as a run composes it, or the folder of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from harness.app.pieces import build
from harness.app.runner import folder_of
from harness.data.splits import Splits
from harness.runs import schema
from harness.runs.schema import HarnessConfig


@dataclass(frozen=True)
class Setting:
    """A composed configuration."""

    config: DictConfig
    choices: dict[str, str]  # group -> option
    sources: list[str]  # folders of the configuration search path
    folder: Path | None = None  # of the run, where one was named

    def run_folder(self, splits: Splits) -> Path:
        """Where this configuration's run is, or would be."""
        if self.folder is not None:
            return self.folder
        plain: dict[str, Any] = OmegaConf.to_container(self.config, resolve=True)  # type: ignore[assignment]
        return folder_of(plain, self.choices, splits.fingerprint)


def composed(overrides: Sequence[str], config_dir: str | None = None) -> Setting:
    """The setting of ``python -m harness <overrides>``.

    Args:
        overrides: as of a run.
        config_dir: a folder of the user's own options, as ``--config-dir`` of a run.

    Raises:
        hydra.errors.HydraException: an override that cannot be composed.
    """
    schema.register()
    own = [] if config_dir is None else [str(Path(config_dir).resolve())]
    path = [] if not own else [f"hydra.searchpath=[file://{own[0]}]"]
    root = str(schema.folder("conf"))
    with initialize_config_dir(root, version_base="1.3", job_name="harness"):
        hydra = compose("config", [*overrides, *path], return_hydra_config=True).hydra
        config = compose("config", [*overrides, *path])
    choices = {k: v for k, v in hydra.runtime.choices.items() if v is not None and not k.startswith("hydra/")}
    return Setting(config, choices, [root, *own])


def of_folder(folder: Path) -> Setting:
    """The setting of a run folder.

    Raises:
        FileNotFoundError: it holds no ``config.yaml``.
    """
    stored = OmegaConf.load(folder / "config.yaml")
    assert isinstance(stored, DictConfig)
    choices = OmegaConf.to_container(stored.pop("choices", OmegaConf.create({})))
    config = OmegaConf.merge(OmegaConf.structured(HarnessConfig), stored)
    assert isinstance(config, DictConfig)
    return Setting(config, dict(choices), [str(schema.folder("conf"))], folder)  # type: ignore[arg-type]


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
