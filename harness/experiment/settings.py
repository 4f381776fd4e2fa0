"""The typed part of a composed configuration: complete, in range, with paths written out. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from harness.core import limits
from harness.experiment.names import unknown_key
from harness.runs.identity import fields_of, schema_of
from harness.runs.schema import ConfigError, HarnessConfig

STAGES = ("rpn", "roi2", "roi3")  # each holds an assigner, a sampler and a loss beside the root's
GROUPS = {  # node -> how its option is chosen
    "data": "data",
    "data.augment": "augment@data.augment",
    "detector": "detector",
    "assigner": "assigner",
    "sampler": "sampler",
    "loss": "loss",
    "loss.classification": "loss/classification",
    "loss.regression": "loss/regression",
    "optimizer": "optimizer",
    "image_sampler": "image_sampler",
    "evaluator": "evaluator",
}
PARTS = ("assigner", "sampler", "loss", "loss.classification", "loss.regression")  # of a stage


def settled(config: DictConfig) -> tuple[HarnessConfig, DictConfig]:
    """The typed settings, and a copy of the configuration in which ``~`` is the home folder.

    Raises:
        ConfigError: a value that is missing, out of range or refers to nothing, or a recipe for other detectors.
    """
    nodes = config.copy()
    try:
        with open_dict(nodes):
            _expand_home(nodes)
        _check_texts(nodes)
        _check_recipe(nodes)  # first: where a recipe does not belong, its stages do not either
        if lines := list(_misplaced(nodes)):
            raise ConfigError("\n".join(lines))
        if missing := sorted(OmegaConf.missing_keys(nodes)):
            raise ConfigError(f"{', '.join(missing)} must be given: {missing[0]}=...")
        settings: HarnessConfig = OmegaConf.to_object(nodes)  # type: ignore[assignment]
    except InterpolationResolutionError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key}: {reason}; a value with ${{ in it is written \\${{") from error
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split("\n")[:2])) from error
    settings.check()
    return settings, nodes


def _check_texts(node: DictConfig | ListConfig) -> None:
    """Refuses a text that no file could hold, such as the name of a folder that is not UTF-8."""
    for name in list(range(len(node))) if isinstance(node, ListConfig) else list(node):
        inner: Any = node._get_node(name)
        if isinstance(inner, DictConfig | ListConfig):
            if not inner._is_none() and not inner._is_missing() and not inner._is_interpolation():
                _check_texts(inner)
        elif isinstance(value := inner._value(), str) and not value.isascii():
            try:
                limits.unicode_text(inner._get_full_key(None), value)
            except ValueError as error:
                raise ConfigError(str(error)) from None


def _check_recipe(nodes: DictConfig) -> None:
    """A recipe names the detectors that it is made for, by their builders, which are called like their options."""
    fits, detector = nodes.get("recipe_fits"), nodes.get("detector")
    if not isinstance(fits, ListConfig) or not isinstance(detector, DictConfig):
        return
    if str(detector.get("_target_")).rpartition(".")[2] not in fits:
        raise ConfigError(
            f"the recipe is made for other detectors; choose one of detector={', '.join(map(str, fits))}, or "
            f"recipe_fits=null to try it nevertheless"
        )


def _misplaced(config: DictConfig) -> Iterator[str]:
    """One line per key that the schema does not have, and per node that is a text where an option belongs."""
    yield from _outside_schema(config, HarnessConfig, "")
    nodes = {**GROUPS}
    for stage in STAGES:
        if config.get(stage) is not None:
            nodes |= {f"{stage}.{part}": f"{GROUPS[part]}@{stage}.{part}" for part in PARTS}
    for key, group in nodes.items():
        node = OmegaConf.select(config, key)
        if isinstance(node, DictConfig):
            if "_target_" not in node:
                yield f"{key}: no _target_ names its class; the YAML of an option has _target_: module.Class"
        elif node is not None:
            yield f"{key}={node}: this is a group; choose its option with {group}={node}"


def _outside_schema(node: DictConfig, schema: type, prefix: str) -> Iterator[str]:
    known = fields_of(schema)
    for name in map(str, node):
        key = f"{prefix}{name}"
        inner = node._get_node(name)
        typed = schema_of(schema, name) if name in known else None
        if name not in known and prefix and name in fields_of(HarnessConfig):
            yield f"{key}: there is no such key; did you mean {name}?"
        elif name not in known:
            yield unknown_key(key, known)
        elif typed is not None and isinstance(inner, DictConfig) and not inner._is_none():
            yield from _outside_schema(inner, typed, f"{key}.")


def _expand_home(node: Any) -> None:
    names = list(range(len(node))) if isinstance(node, ListConfig) else list(node)
    for name in names:
        inner = node._get_node(name)
        if isinstance(inner, DictConfig | ListConfig):
            if not inner._is_none() and not inner._is_missing() and not inner._is_interpolation():
                _expand_home(inner)
        elif isinstance(value := inner._value(), str) and (value == "~" or value.startswith("~/")):
            node[name] = str(Path(value).expanduser())
