"""The identity of a run: the hash of every configuration key that can change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from harness.runs.roles import ADDED, ADDED_INSIDE, EVERYWHERE, INSIDE, ROLE, WITHOUT_EFFECT, Role
from harness.runs.schema import HarnessConfig


@cache
def role_of(dotted: str) -> Role:
    """The role of a key: that of the deepest field of the schema on its path which states one.

    >>> str(role_of("run.num_workers")), str(role_of("data.augment.p")), str(role_of("rpn.assigner.memory_bound"))
    ('speed', 'method', 'speed')
    """
    parts = dotted.split(".")
    if parts[-1] in _everywhere():
        return _everywhere()[parts[-1]]
    role = Role.METHOD  # of a root key that the schema does not have
    schema: type = HarnessConfig
    for depth, part in enumerate(parts):
        stated = fields_of(schema).get(part)
        if stated is None:
            break
        role = stated.metadata[ROLE]
        inner = schema_of(schema, part)
        if inner is None:
            below = parts[depth + 1] if depth + 1 < len(parts) else ""
            return Role(stated.metadata[INSIDE].get(below, role))
        schema = inner
    return role


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration without the keys that cannot change the result."""
    return _kept(config, "")


def config_hash(config: Mapping[str, Any], data_fingerprint: str) -> str:
    """The ten-digit hash of what can change a run's result.

    Args:
        config: the resolved configuration as plain containers.
        data_fingerprint: names the data by its content, so that a moved folder stays the same data.
    """
    text = json.dumps([identity_of(config), data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _kept(node: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    kept = {}
    for name, value in node.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            if inner := _kept(value, f"{dotted}."):
                kept[name] = inner
        elif role_of(dotted) not in WITHOUT_EFFECT and (
            dotted not in added_defaults() or value != added_defaults()[dotted]
        ):
            kept[name] = _plain(value)
    return kept


def _plain(value: Any) -> Any:
    """Lists with the mappings inside them freed of keys that have the same role everywhere."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        effective = {name for name in value if _everywhere().get(name) not in WITHOUT_EFFECT}
        return {name: _plain(value[name]) for name in value if name in effective}
    return value


@cache
def fields_of(schema: type) -> dict[str, Field[Any]]:
    """The fields of a part of the schema by name."""
    return {one.name: one for one in fields(schema)}


@cache
def schema_of(schema: type, name: str) -> type | None:
    """The part of the schema that types a field, through ``| None``; None where the node is free."""
    hint = get_type_hints(schema)[name]
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)


@cache
def _everywhere() -> dict[str, Role]:
    found = _walk(HarnessConfig)
    return {name.rpartition(".")[2]: one.metadata[ROLE] for name, one in found if one.metadata[EVERYWHERE]}


@cache
def added_defaults() -> dict[str, Any]:
    """The dotted keys of later versions, with their defaults: the values that a run without them was made with."""
    walked = _walk(HarnessConfig)
    inside = {f"{name}.{key}": value for name, one in walked for key, value in one.metadata[ADDED_INSIDE].items()}
    return inside | {name: one.default for name, one in walked if one.metadata[ADDED]}


def _walk(schema: type, prefix: str = "") -> list[tuple[str, Field[Any]]]:
    """Dotted names and fields of the typed keys."""
    found = []
    for name, one in fields_of(schema).items():
        inner = schema_of(schema, name)
        found += [(f"{prefix}{name}", one)] if inner is None else _walk(inner, f"{prefix}{name}.")
    return found
