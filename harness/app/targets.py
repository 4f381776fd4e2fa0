"""The classes and functions that a configuration names by ``_target_``: whether they are there and take its keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from harness.app.names import nearest, unknown_key
from harness.runs.identity import fields_of, schema_of
from harness.runs.schema import HarnessConfig

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
    "evaluator": "evaluator",
}
PARTS = ("assigner", "sampler", "loss", "loss.classification", "loss.regression")  # of a stage
SUPPLIED = {  # arguments that the harness passes itself, and where they come from
    "detector.num_classes": "it follows from the classes of the data",
    "optimizer.params": "they are the detector's",
}
_HYDRA = frozenset({"_target_", "_partial_", "_recursive_", "_convert_", "_args_"})


def wrong_names(config: DictConfig) -> Iterator[str]:
    """One line per key that the schema or the constructor of its node does not have, or node that is no option.

    Args:
        config: a composed configuration; ``+key=value`` may have added anything to it.
    """
    yield from _outside_schema(config, HarnessConfig, "")
    nodes = {**GROUPS}
    for stage in ("rpn", "roi2", "roi3"):
        if config.get(stage) is not None:
            nodes |= {f"{stage}.{part}": f"{GROUPS[part]}@{stage}.{part}" for part in PARTS}
    for key, group in nodes.items():
        node = OmegaConf.select(config, key)
        if isinstance(node, DictConfig):
            if "_target_" not in node:
                yield f"{key}: no _target_ names its class; choose an option with {group}=..."
        elif node is not None:
            yield f"{key}={node}: this is a group; choose its option with {group}={node}"
    for key in ("data", "detector", "assigner", "sampler", "loss", "optimizer", "evaluator", "rpn", "roi2", "roi3"):
        yield from _wrong_arguments(OmegaConf.select(config, key), key)


def located(name: str, key: str) -> Callable[..., Any]:
    """The class or function with a dotted ``name``.

    Raises:
        ImportError: there is none; the line names the ``key`` and what was missing.
    """
    try:
        found: Callable[..., Any] = get_object(name)
    except Exception as error:  # importing a user's module runs it, and it may raise anything
        causes = [cause for cause in _chain(error) if not str(cause).startswith("Error l")]
        cause = causes[-1] if causes else error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        advice = "; put its folder on PYTHONPATH" if isinstance(cause, ModuleNotFoundError) else ""
        raise ImportError(f"{key}._target_={name} cannot be imported: {reason}{advice}") from error
    return found


def targets_in(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """``(key, _target_)`` of a node and of all nodes below it."""
    if isinstance(node, Mapping | DictConfig):
        if isinstance(node.get("_target_"), str):
            yield key, node["_target_"]
        for name in node:
            yield from targets_in(node[name], f"{key}.{name}" if key else str(name))
    elif isinstance(node, Sequence | ListConfig) and not isinstance(node, str):
        for index, item in enumerate(node):
            yield from targets_in(item, f"{key}.{index}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _outside_schema(node: DictConfig, schema: type, prefix: str) -> Iterator[str]:
    known = fields_of(schema)
    for name in node:
        key = f"{prefix}{name}"
        if name not in known:
            yield unknown_key(key, known)
        elif (inner := schema_of(schema, str(name))) is not None and isinstance(node._get_node(name), DictConfig):
            if node.get(name) is not None:
                yield from _outside_schema(node[name], inner, f"{key}.")


def _wrong_arguments(node: Any, key: str) -> Iterator[str]:
    if not isinstance(node, DictConfig):
        return
    if isinstance(node.get("_target_"), str):
        valid = _accepted(located(node["_target_"], key))
        for name in node if valid is not None else ():
            full = f"{key}.{name}"
            if name not in _HYDRA and full not in SUPPLIED and name not in valid:
                yield f"{full}: there is no such key" + nearest(
                    str(name), [one for one in valid if f"{key}.{one}" not in SUPPLIED]
                ).replace("there are", f"{key} has")
    for name in node:
        full = f"{key}.{name}"
        if full in SUPPLIED:
            yield f"{full}: the harness sets it, {SUPPLIED[full]}"
        if not OmegaConf.is_missing(node, name):
            yield from _wrong_arguments(node[name], full)


def _accepted(target: Callable[..., Any]) -> list[str] | None:
    """The names of a callable's parameters; None where it takes any, or says nothing of them."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters]
