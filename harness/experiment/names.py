"""Says in one line what cannot be composed, with the nearest name that exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException

from harness.runs.locations import folder
from harness.runs.presets import NONE, PRESETS

Keys = Callable[[], Sequence[str]]  # the dotted keys and the groups that exist; composed only where they are wanted

SHOWN = 12  # names that a line lists
COMMA = "a comma separates the values of a sweep, without blanks"


def nearest(name: str, valid: Iterable[str], place: str = "") -> str:
    """The end of a refusal: ``; did you mean num?``, or the names that there are, or nothing where there is none.

    Args:
        name: what was written.
        valid: what could have been meant; of two that are equally near, the first.
        place: the node that has these names.
    """
    names = list(dict.fromkeys(valid))
    if not names:
        return ""
    close = max(names, key=lambda one: SequenceMatcher(None, one, name).ratio())
    if get_close_matches(name, [close], cutoff=0.6):
        return f"; did you mean {f'{place}.' if place else ''}{close}?"
    place = place and f"{place} has"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"; {place or 'there are'} {', '.join(names[:SHOWN])}{more}"


def unknown_key(key: str, valid: Iterable[str]) -> str:
    """The refusal of a dotted key of which the last part is not among ``valid``."""
    parent, _, last = key.rpartition(".")
    return f"{key}: there is no such key" + nearest(last, valid, parent)


def explained(error: Exception, keys: Keys) -> str:
    """The message of an error of composition, on one line and without advice that leads nowhere.

    Args:
        error: of Hydra or OmegaConf.
        keys: gives the keys that could have been meant.
    """
    if isinstance(error, MissingConfigException):
        return _missing_option(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if isinstance(error, ConfigCompositionException):
        return _not_composed(error, keys)
    return _joined(str(error))


def _missing_option(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file
    if isinstance(missing, str) and error.options is not None:
        group, _, option = missing.rpartition("/")
        if not group:
            return f"-cn {option}: there is no such file" + nearest(option, error.options)
        if not option:
            return f"{group}=: an option must be given" + nearest(option, error.options)
        if inner := [one.parent.name for one in folder("conf").glob(f"{group}/*/{option}.yaml")]:
            meant = " or ".join(f"{group}/{name}={option}" for name in sorted(inner))
            return f"{group}={option}: there is no such option; did you mean {meant}?"
        options = [*error.options, NONE] if group in PRESETS else error.options
        return f"{group}={option}: there is no such option" + nearest(option, options)
    if isinstance(missing, str):
        files = sorted(path.stem for path in folder("sweeps").glob("*.yaml"))
        return f"-cn {missing}: there is no such file" + nearest(missing, files)
    return _joined(re.split(r"\nConfig search path", str(error))[0])


def _unreadable(error: OverrideParseException) -> str:
    override = str(error.override)
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: an argument is key=value, such as sampler=ohem, or a flag (--help lists them)"
    if value.rstrip().endswith(","):
        return f"{override}: {COMMA}"
    told = [line for line in str(error).splitlines() if not line.startswith(("Error parsing", "See "))]
    reason = told[0] if told else "cannot be read"
    return f"{override}: {reason}; a text with such characters goes in quotes: '{key}=\"{value}\"'"


def _not_composed(error: ConfigCompositionException, keys: Keys) -> str:
    text = str(error)
    if found := re.match(r"Could not override '([^']+)'", text):
        return _unknown_override(found[1], text, keys)
    if found := re.match(r"Ambiguous value for argument '(.+)'", text):
        key, _, value = found[1].partition("=")
        if value.strip().endswith(",") or "," not in value:
            return f"{found[1]}: {COMMA}"
        return f"{found[1]}: several values make a sweep, which -m starts: -m {key}={value.replace(' ', '')}"
    cause = error.__cause__
    said = _joined(str(cause).splitlines()[0]) if cause is not None and str(cause) else ""
    if found := re.match(r"Error merging override (.+)", text):
        said = re.sub(r"Value '.*' (?:of type '\w+' )?could not be converted to ", "must be of type ", said)
        return f"{found[1]}: {said.replace('Integer', 'int').replace('Float', 'float').replace('Boolean', 'bool')}"
    return _joined(f"{text} {said}")


def _unknown_override(key: str, text: str, keys: Keys) -> str:
    if meant := re.search(r"Did you mean to override (?:one of )?([^?\n]+)\?", text):
        return f"{key}: there is no such group; did you mean {meant[1].replace(', ', ' or ')}?"
    inside = key.startswith("hydra.")  # Hydra's own node, of which nothing belongs to the experiment
    known = [name for name in keys() if name.startswith("hydra") == inside]
    others = [name for name in known if not key.startswith(f"{name}.")]
    if close := [name for name in get_close_matches(key, others, n=5, cutoff=0.75) if _last_alike(key, name)]:
        return f"{key}: there is no such key; did you mean {close[0]}?"
    parent = key.rpartition(".")[0]
    while parent and not any(name.startswith(f"{parent}.") for name in known):
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    beside = {name.removeprefix(prefix).split(".")[0] for name in known if name.startswith(prefix)}
    return unknown_key(key, sorted(beside))


def _last_alike(key: str, name: str) -> bool:
    """Whether two keys end alike: a long node alone makes any two of its keys look alike."""
    return bool(get_close_matches(key.rpartition(".")[2], [name.rpartition(".")[2]], cutoff=0.6))


def _joined(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def keys_of(config: Any, prefix: str = "") -> list[str]:
    """All dotted keys of nested mappings, nodes and leaves."""
    found = []
    for name, value in config.items():
        found.append(f"{prefix}{name}")
        if hasattr(value, "items"):
            found += keys_of(value, f"{prefix}{name}.")
    return found
