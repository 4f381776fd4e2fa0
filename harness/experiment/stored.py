"""The configuration that a run left in its folder, read without trusting it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.runs import schema
from harness.runs.schema import ConfigError, HarnessConfig


def stored_config(folder: Path, trusted: Sequence[str] = ()) -> tuple[DictConfig, dict[str, str]]:
    """The configuration in the ``config.yaml`` of a run, and its choices, group -> option.

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
        if target not in known and not any(str(target).startswith(f"{module}.") for module in trusted):
            module = str(target).rpartition(".")[0] or target
            raise ConfigError(
                f"{path}: {key}={target!r} is no option of conf/; --trust {module} accepts it "
                f"(in Python: trust=[{module!r}])"
            )
    choices = OmegaConf.to_container(stored.pop("choices", OmegaConf.create({})))
    config = OmegaConf.merge(OmegaConf.structured(HarnessConfig), stored)
    assert isinstance(config, DictConfig)
    return config, dict(choices)  # type: ignore[arg-type]


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
