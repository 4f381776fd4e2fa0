"""Which configuration keys a recipe or an experiment writes: such keys belong to the option that a run chose."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.report.frame import RunTable, flat
from harness.report.reading import UnreadableError, parse_yaml, read_text
from harness.runs.presets import PRESETS
from harness.runs.schema import folder

GROUPS = tuple(dict.fromkeys(group.partition("/")[0] for group in PRESETS))


@lru_cache(maxsize=1)
def keys_of_presets(table: RunTable) -> frozenset[str]:
    """The dotted keys that the experiments and recipes write in which the runs of the table differ.

    It goes over all settings of all runs, so it is kept for the sections of a report, which ask for it one by one.
    An option that is not among the harness's own (a user's, by ``--config-dir``) is not known here: its settings count
    like any others.
    """
    columns = dict.fromkeys(column for settings in table.settings for column in settings if is_preset(column))
    chosen = {column: {settings.get(column) for settings in table.settings} for column in columns}
    return frozenset(
        key
        for column, options in chosen.items()
        if len(options) > 1
        for option in options
        if option is not None
        for key in _written(column, str(option))
    )


def is_preset(column: str) -> bool:
    """Whether a column names a recipe or an option of an experiment, which chooses several settings at once."""
    return column in GROUPS or column.startswith(tuple(f"{group}{mark}" for group in GROUPS for mark in "/."))


def _written(column: str, option: str) -> dict[str, Any]:
    conf = folder("conf").resolve()
    path = Path(conf, *column.replace(".", "/").split("/"), f"{option}.yaml").resolve()
    try:
        value = parse_yaml(read_text(path.parent, path.name)) if path.is_relative_to(conf) else {}
    except UnreadableError:
        return {}
    return flat({key: inner for key, inner in value.items() if isinstance(inner, Mapping)})
