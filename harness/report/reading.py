"""Reads single files of run folders, which may be damaged, foreign or hostile: whatever is wrong has one sentence."""

from __future__ import annotations

import json
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from harness.runs.integrity import DamagedFileError, unsealed

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 40  # nesting of YAML; the C parser overflows its stack at some ten thousand
_LARGEST_YAML = 4_000_000  # bytes


class UnreadableError(Exception):
    """Why a file or a folder is left out, in one line."""


def read_text(folder: Path, name: str) -> str:
    """The text of a regular file.

    Raises:
        UnreadableError: it is missing, no regular file (opening a FIFO would wait for ever), or no text.
    """
    path = folder / name
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError(f"unreadable: {name} is not a regular file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UnreadableError(f"incomplete: no {name}") from None
    except OSError as error:
        raise UnreadableError(f"unreadable: {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnreadableError(f"corrupt: {name} is not text") from None


def read_json(folder: Path, name: str) -> Any:
    """The value of a JSON file.

    Raises:
        UnreadableError: as `read_text`, or it is not JSON, nested too deeply, or another than its checksum says.
    """
    text = read_text(folder, name)
    try:
        return json.loads(unsealed(text.encode(), folder / name))
    except DamagedFileError:
        raise UnreadableError(f"corrupt: {name} is not what its checksum says") from None
    except RecursionError:
        raise UnreadableError(f"corrupt: {name} is nested too deeply") from None
    except (ValueError, MemoryError):
        raise UnreadableError(f"corrupt: {name} is not JSON") from None


def read_json_object(folder: Path, name: str) -> dict[str, Any]:
    """The value of a JSON file that holds an object.

    Raises:
        UnreadableError: as `read_json`, or it holds something else.
    """
    value = read_json(folder, name)
    if not isinstance(value, dict):
        raise UnreadableError(f"corrupt: {name} is not a JSON object")
    return value


@lru_cache(maxsize=4096)
def parse_yaml(text: str) -> dict[str, Any]:
    """A YAML mapping; blocks that many runs share are parsed once. The caller must not change the result.

    Raises:
        UnreadableError: no mapping, nested too deeply, too large, or with aliases, which no run writes and which can
            grow to gigabytes.
    """
    if len(text) > _LARGEST_YAML:
        raise UnreadableError("is too large")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise UnreadableError("has aliases")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise UnreadableError("is nested too deeply")
        value = yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError):
        raise UnreadableError("is not a YAML mapping") from None
    if not isinstance(value, dict | None):
        raise UnreadableError("is not a YAML mapping")
    return value or {}
