"""What a run leaves on disk, key by key. Floor 0: neither torch nor pandas is needed to read a run folder."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any


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
    eval_seconds: float
    images_per_second: float  # training images over train_seconds
    peak_memory_mb: float  # device memory on CUDA, resident set elsewhere
    sessions: int  # 1 unless the run was interrupted


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


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary neighbour of ``path`` that takes its name when the block ends without an error.

    A reader therefore sees the old file or the new one, never half of one, also after a kill or on a full disk.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"  # not mkstemp: others may read what a run leaves
    try:
        with temporary.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any] | list[Any], indent: int | None = 2) -> None:
    """Writes ``value`` whole or not at all."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=indent, allow_nan=True)
        file.write("\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
