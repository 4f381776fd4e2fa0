"""Configurations composed outside of a run: for messages, and for commands that look at an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from harness.app import left_out
from harness.experiment.names import keys_of
from harness.experiment.replaced_parts import reset_replaced_parts
from harness.runs import schema
from harness.runs.presets import NONE, PRESETS


def composed(overrides: Sequence[str], own: Path | None = None) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of ``python -m harness <overrides>``, and its choices, group -> option.

    Args:
        overrides: as of a run.
        own: a folder of the user's own options, as ``--config-dir`` of a run.

    Raises:
        hydra.errors.HydraException: an override that cannot be composed.
    """
    schema.register()
    left_out.register()
    path = _searchpath(own)
    with initialize_config_dir(str(schema.folder("conf")), version_base="1.3", job_name="harness"):
        config = compose("config", [*overrides, *path], return_hydra_config=True)
    choices = choices_of(config.hydra)
    with flag_override(config, ["struct", "readonly"], False):
        del config["hydra"]  # as a run gets it; composing twice would take twice as long
    folders = [schema.folder("conf")] if own is None else [schema.folder("conf"), own]
    reset_replaced_parts(config, choices, overrides, [str(folder) for folder in folders])
    return config, choices


def choices_of(hydra: Any) -> dict[str, str]:
    """Group -> option, as Hydra composed them; a preset that was left out, in whatever way, is not among them."""
    chosen = {k: v for k, v in hydra.runtime.choices.items() if v is not None and not k.startswith("hydra/")}
    return {group: option for group, option in chosen.items() if group not in PRESETS or option != NONE}


def keys_without(arguments: Sequence[str], own: Path | None = None) -> list[str]:
    """The keys and groups of a configuration that the group choices among ``arguments`` compose; for suggestions.

    Those of Hydra's own node are among them, as the chosen launcher and sweeper have them.

    Args:
        arguments: of the command line.
        own: a folder of the user's own options, as of ``--config-dir``.
    """
    conf = schema.folder("conf")
    folders = [conf] if own is None else [conf, own]
    groups = {path.relative_to(one).as_posix() for one in folders for path in one.rglob("*") if path.is_dir()}
    groups |= {"hydra/launcher", "hydra/sweeper"}
    chosen = [one for one in arguments if one.partition("=")[0].partition("@")[0] in groups and "," not in one]
    GlobalHydra.instance().clear()
    schema.register()
    left_out.register()
    named = next((name for flag, name in pairwise(arguments) if flag in ("-cn", "--config-name")), "config")
    path = _searchpath(own)
    for name, overrides in ((named, chosen), ("config", chosen), ("config", [])):
        try:
            with initialize_config_dir(str(conf), version_base="1.3", job_name="harness"):
                config = compose(name, [*overrides, *path], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException):
            continue
        return [*keys_of(OmegaConf.to_container(config, resolve=False)), *choices_of(config.hydra)]
    return []


def _searchpath(own: Path | None) -> list[str]:
    """The override that puts a folder of the user's own options behind ``conf/``."""
    return [] if own is None else [f"hydra.searchpath=[file://{own.resolve()}]"]
