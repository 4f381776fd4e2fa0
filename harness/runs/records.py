"""What a run leaves on disk, key by key. Neither torch nor pandas is needed to read a run folder."""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from harness.runs.integrity import DamagedFileError, sealed, unsealed

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")  # names of files that atomic_write has not finished


class State(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True)
class Status:
    """``status.json``."""

    state: State
    reason: str = ""  # one line where failed, refused or interrupted
    iteration: int = 0  # training steps that the newest checkpoint holds
    updated: str = ""  # UTC, ISO 8601


@dataclass(frozen=True)
class Cost:
    """What a run took. Not part of what two identical runs agree on."""

    train_seconds: float  # in the training loop, over all sessions of the run
    eval_seconds: float  # likewise
    images_per_second: float  # training images over train_seconds
    peak_memory_mb: float  # of the last session: device memory on CUDA, resident set of the first process elsewhere
    sessions: int  # 1 unless the run was interrupted
    processes: int = 1  # that trained together in the last session


@dataclass(frozen=True)
class Result:
    """``result.json``: the finished run."""

    run: str  # folder name
    hash: str  # of the configuration that can change the result
    seed: int
    choices: dict[str, str]  # group -> option, as composed
    metrics: dict[str, Any]  # map, map50, map75, per-class AP, error types, ... (analysis.accuracy)
    sampling: dict[str, Any]  # per stage: positives and negatives per image, share of easy negatives, ...
    data: dict[str, Any]  # name, fingerprint, images, objects, classes, problems dropped
    iterations: int
    images: int  # training images seen
    parameters: int  # trainable
    cost: Cost
    files: dict[str, str] = field(default_factory=dict)  # checksums of the run's files that hold none themselves
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def jsonable(value: Any) -> Any:
    """Dataclasses and containers as JSON has them; what has no value (NaN) is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: jsonable(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def check_result(value: Any, path: Path) -> dict[str, Any]:
    """``value`` if it can be the content of ``result.json``.

    Raises:
        DamagedFileError: keys are missing, or numbers are out of their range; the message names the file and the key.
    """
    known = {part.name for part in fields(Result)}
    missing = known - {"files", "extra"} - set(value if isinstance(value, dict) else ())
    if missing:
        raise DamagedFileError(f"{path} is damaged: it has no {', '.join(sorted(missing))}")
    metrics, cost = value["metrics"], value["cost"]
    if not isinstance(metrics, dict) or not isinstance(cost, dict):
        raise DamagedFileError(f"{path} is damaged: metrics and cost must be objects")
    bounds = {f"metrics.{key}": (metrics.get(key), 1.0) for key in ("map", "map50", "map75")}
    bounds |= {f"cost.{key}": (cost.get(key), math.inf) for key in ("train_seconds", "eval_seconds")}
    bounds |= {key: (value[key], math.inf) for key in ("iterations", "images", "parameters")}
    for key, (number, most) in bounds.items():
        if number is not None and not (isinstance(number, int | float) and 0 <= number <= most):
            raise DamagedFileError(f"{path} is damaged: {key}={number!r} must be from 0 to {most:g}")
    return value


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary neighbor of ``path`` that takes its name when the block ends without an error.

    A reader therefore sees the old file or the new one, never half of one, also after a kill or on a full disk. File
    and folder are flushed to the disk, so that this holds after a power cut, too.

    Args:
        path: of the file.
        mode: ``w``, ``wb`` or ``w+b``. A text that UTF-8 cannot hold (the name of a file may be one) is written with
            escapes in the place of what it cannot hold.

    Raises:
        OSError: the file cannot be written; its ``filename`` is ``path``.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"  # not mkstemp: others may read what a run leaves
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    try:
        with temporary.open(mode.replace("w", "x"), **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk names no file, and nobody knows the temporary one
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder safe from a power cut, where the system can do that."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows does not open folders
        return
    with suppress(OSError), os.fdopen(number):  # some network file systems cannot
        os.fsync(number)


def write_json(path: Path, value: Mapping[str, Any] | list[Any], indent: int | None = 2) -> None:
    """Writes ``value`` whole or not at all; an object that is not empty with its checksum as last key."""
    text = json.dumps(value, indent=indent, allow_nan=True)
    with atomic_write(path) as file:
        file.write((sealed(text) if value and isinstance(value, Mapping) else text) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file, without the checksum that :func:`write_json` added.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        DamagedFileError: its checksum is wrong.
        ValueError: it is not JSON or too deeply nested; the message names the file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file")  # opening a pipe would wait for its other end
    data = unsealed(path.read_bytes(), path)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} is not JSON: {reason}") from None
    if isinstance(value, dict) and "checksum" in value:  # where a whole one stands, it was taken off above
        raise DamagedFileError(f"{path} is damaged: its checksum is no checksum")
    return value
