"""Run folders as they lie on disk: found, read, and named with a reason where they cannot be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from harness.runs.records import State, read_json

SETTLED = (State.DONE, State.FAILED, State.REFUSED)
_TOP_LEVEL = re.compile(r"(?m)^(?=[^\s#\-])")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ReportError(ValueError):
    """Something a user asked for that cannot be; one line that names the valid choices."""


@dataclass(frozen=True)
class LeftOut:
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


class UnreadableError(Exception):
    """Why a folder is left out."""


def find_folders(path: Path) -> list[Path]:
    """Every folder that stands where runs do: ``path/runs/*``, ``path/*``, or ``path`` itself if it is a run.

    Raises:
        ReportError: there is no such folder, or no run in it.
    """
    if not path.is_dir():
        raise ReportError(f"{path}: there is no such folder; give the one that holds runs/ (run.root of the runs)")
    if _looks_like_run(path):
        return [path]
    root = path / "runs" if (path / "runs").is_dir() else path
    folders = sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not any(_looks_like_run(folder) for folder in folders):
        raise ReportError(f"{path}: no runs there; a run is a folder {root}/<name> with config.yaml and status.json")
    return folders


def _looks_like_run(folder: Path) -> bool:
    return (folder / "status.json").exists() or (folder / "config.yaml").exists()


def read_run(folder: Path) -> RunFiles:
    """One run that came to an end.

    Raises:
        UnreadableError: foreign, corrupt or incomplete, with the reason.
    """
    if not _looks_like_run(folder):
        raise UnreadableError("foreign: neither config.yaml nor status.json")
    status = _mapping(folder, "status.json")
    try:
        state = State(str(status.get("state")))
    except ValueError:
        known = ", ".join(State)
        raise UnreadableError(f"corrupt: status.json says state {status.get('state')!r}, none of {known}") from None
    config = _config(folder)
    choices = config.pop("choices", None)
    if not isinstance(choices, dict) or type(config.get("seed")) is not int:
        raise UnreadableError("corrupt: config.yaml has no choices or no seed")
    if state not in SETTLED:
        settings = config.get("run")
        total = settings.get("iterations", "?") if isinstance(settings, dict) else "?"
        at = f"{state} at iteration {status.get('iteration', 0)} of {total}"
        raise UnreadableError(f"incomplete: {at}, last heard of {status.get('updated') or 'never'}")
    result = _mapping(folder, "result.json") if state is State.DONE else None
    if result is not None and not isinstance(result.get("metrics"), dict):
        raise UnreadableError("corrupt: result.json has no metrics")
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
    """``environment.json``; empty where the run was refused before it wrote one."""
    try:
        value = read_json(folder / "environment.json")
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = read_json(folder / name)
    except FileNotFoundError:
        raise UnreadableError(f"incomplete: no {name}") from None
    except OSError as error:
        raise UnreadableError(f"unreadable: {name}: {error.strerror}") from None
    except ValueError:
        raise UnreadableError(f"corrupt: {name} is not JSON") from None
    if not isinstance(value, dict):
        raise UnreadableError(f"corrupt: {name} is not a JSON object")
    return value


def _config(folder: Path) -> dict[str, Any]:
    """``config.yaml`` by its top-level blocks: the runs of a sweep share most of them, and parsing is what costs."""
    try:
        text = (folder / "config.yaml").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnreadableError("incomplete: no config.yaml") from None
    except OSError as error:
        raise UnreadableError(f"unreadable: config.yaml: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnreadableError("corrupt: config.yaml is not text") from None
    config: dict[str, Any] = {}
    try:
        for block in _TOP_LEVEL.split(text):
            if block.strip():
                config.update(_parsed(block))
    except (yaml.YAMLError, TypeError, ValueError):
        raise UnreadableError("corrupt: config.yaml is not a YAML mapping") from None
    return config


@lru_cache(maxsize=4096)
def _parsed(block: str) -> dict[str, Any]:
    value = yaml.load(block, Loader=_LOADER)
    return dict(value or {})
