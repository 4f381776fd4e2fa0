"""Run folders as they lie on disk: found, read, checked, and named with a reason where they cannot be read."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from harness.report.reading import UnreadableError, parse_yaml, read_json_object, read_text
from harness.runs.records import State

SETTLED = (State.DONE, State.FAILED, State.REFUSED)
_TOP_LEVEL = re.compile(r"(?m)^(?=[^\s#\-])")
_SHARES = ("map", "ar_", "ap", "d_ece")  # metrics from 0 to 1, by the start of their names


class ReportError(ValueError):
    """Something a user asked for that cannot be; one line that names the valid choices."""


@dataclass(frozen=True)
class SkippedFolder:
    """A folder that is in no table, and why."""

    folder: str
    reason: str


@dataclass(frozen=True)
class RunFiles:
    """The small files of one settled run."""

    path: Path
    state: State
    reason: str
    updated: str
    config: dict[str, Any]  # resolved, without its choices
    choices: dict[str, str]  # group -> option
    result: dict[str, Any] | None  # of a run that is done
    environment: dict[str, Any]


def find_folders(path: Path) -> list[Path]:
    """Every folder that stands where runs do: ``path/runs/*``, ``path/*``, or ``path`` itself if it is a run.

    Raises:
        ReportError: there is no such folder, it may not be read, or no run is in it.
    """
    if not path.is_dir():
        raise ReportError(f"{path}: there is no such folder; give the one that holds runs/ (run.root of the runs)")
    try:
        if _has_files_of_a_run(path):
            return [path]
        root = path / "runs" if (path / "runs").is_dir() else path
    except PermissionError as error:
        raise ReportError(f"{path}: {error.strerror}") from None
    folders = sorted(child for child in root.iterdir() if os.path.isdir(child) and not child.name.startswith("."))
    if not any(_looks_like_run(folder) for folder in folders):
        raise ReportError(f"{path}: no runs there; a run is a folder {root}/<name> with config.yaml and status.json")
    return folders


def _looks_like_run(folder: Path) -> bool:
    """Also where it may not be looked into: whoever reads it then says so."""
    try:
        return _has_files_of_a_run(folder)
    except PermissionError:
        return True


def _has_files_of_a_run(folder: Path) -> bool:
    return (folder / "status.json").exists() or (folder / "config.yaml").exists()


def read_run(folder: Path) -> RunFiles:
    """One run that came to an end.

    Raises:
        UnreadableError: foreign, corrupt or incomplete, with the reason.
    """
    if not _looks_like_run(folder):
        raise UnreadableError("foreign: neither config.yaml nor status.json")
    status = read_json_object(folder, "status.json")
    try:
        state = State(str(status.get("state")))
    except ValueError:
        known = ", ".join(State)
        raise UnreadableError(f"corrupt: status.json says state {status.get('state')!r:.60}, none of {known}") from None
    config = _config(folder)
    choices = config.pop("choices", None)
    if not isinstance(choices, dict) or type(config.get("seed")) is not int:
        raise UnreadableError("corrupt: config.yaml has no choices or no seed")
    if not 0 <= config["seed"] < 2**32:
        raise UnreadableError("corrupt: config.yaml: seed is not a number from 0 to 4294967295")
    if state not in SETTLED:
        settings = config.get("run")
        total = settings.get("iterations", "?") if isinstance(settings, dict) else "?"
        at = f"{state} at iteration {status.get('iteration', 0)} of {total}"
        raise UnreadableError(f"incomplete: {at}, last heard of {status.get('updated') or 'never'}")
    result = _result(folder) if state is State.DONE else None
    return RunFiles(
        path=folder,
        state=state,
        reason=str(status.get("reason", "")),
        updated=str(status.get("updated", "")),
        config=config,
        choices={str(group): str(option) for group, option in choices.items()},
        result=result,
        environment=environment(folder),
    )


def environment(folder: Path) -> dict[str, Any]:
    """``environment.json``; empty where it cannot be read, as of a run that was refused before it wrote one."""
    try:
        return read_json_object(folder, "environment.json")
    except UnreadableError:
        return {}


def _result(folder: Path) -> dict[str, Any]:
    result = read_json_object(folder, "result.json")
    metrics = result.get("metrics")
    if not isinstance(metrics, dict):
        raise UnreadableError("corrupt: result.json has no metrics")
    for name, value, highest in _numbers_of(result, metrics):
        known = isinstance(value, Real) and not isinstance(value, bool)
        if not known or not (math.isnan(value) or 0 <= value <= highest):
            valid = "from 0 to 1" if highest == 1 else "of 0 or more"
            raise UnreadableError(f"corrupt: result.json: {name} is {value!r:.40}, not a number {valid}")
    return result


def _numbers_of(result: Mapping[str, Any], metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any, float]]:
    """Name, value and highest valid value of the numbers that are compared; None has no value and is left out."""
    places = [("metrics", metrics), ("metrics.calibration", metrics.get("calibration"))]
    places += [(f"metrics.{name}", metrics.get(name)) for name in ("segm", "keypoints", "frequencies")]
    tide = metrics.get("tide")
    places.append(("metrics.tide.delta_ap", tide.get("delta_ap") if isinstance(tide, Mapping) else None))
    for place, values in places:
        for key, value in values.items() if isinstance(values, Mapping) else ():
            if value is not None and (place.endswith("delta_ap") or str(key).startswith(_SHARES)):
                yield f"{place}.{key}", value, 1
    for name in ("segm", "keypoints"):
        branch = metrics.get(name)
        per_class = branch.get("per_class") if isinstance(branch, Mapping) else None
        for key, value in per_class.items() if isinstance(per_class, Mapping) else ():
            if value is not None:
                yield f"metrics.{name}.per_class.{key}", value, 1
    rows = metrics.get("per_class")
    for i, row in enumerate(rows if isinstance(rows, list) else ()):
        for key, value in row.items() if isinstance(row, Mapping) else ():
            if value is not None and str(key).startswith(("ap", "ar")):
                yield f"metrics.per_class[{i}].{key}", value, 1
    cost = result.get("cost")
    for key, value in cost.items() if isinstance(cost, Mapping) else ():
        if value is not None:
            yield f"cost.{key}", value, 1e15


def _config(folder: Path) -> dict[str, Any]:
    """``config.yaml`` by its top-level blocks: the runs of a sweep share most of them, and parsing is what costs."""
    text = read_text(folder, "config.yaml")
    config: dict[str, Any] = {}
    for block in filter(str.strip, _TOP_LEVEL.split(text)):
        try:
            config.update(parse_yaml(block))
        except UnreadableError as why:
            raise UnreadableError(f"corrupt: config.yaml {why}") from None
    return config
