"""One run's folder: opened, locked, written whole or not at all, and read back. Floor 1."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from harness.runs.records import Result, State, Status, atomic_write, read_json, write_json


class FolderBusyError(RuntimeError):
    """Another process is writing this run."""


class RunFolder:
    """The files of one run, ``results/runs/<name>-<hash>/``. Use as a context manager: it holds the folder's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process dies
        except OSError:
            self._lock.close()
            raise FolderBusyError(f"{self.path} is being written by another process") from None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    @property
    def checkpoint(self) -> Path:
        """The newest training state."""
        return self.path / "checkpoint.pt"

    @property
    def status(self) -> Status | None:
        """What the run last said of itself; ``None`` before it said anything."""
        try:
            raw = read_json(self.path / "status.json")
            return Status(**{**raw, "state": State(raw["state"])})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    @property
    def finished(self) -> bool:
        """Whether a whole result stands there."""
        status = self.status
        return status is not None and status.state is State.DONE and (self.path / "result.json").exists()

    def result(self) -> dict[str, Any]:
        """``result.json`` of a finished run."""
        value: dict[str, Any] = read_json(self.path / "result.json")
        return value

    def set_status(self, state: State, reason: str = "", iteration: int = 0) -> None:
        """Writes ``status.json``."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        one_line = " ".join(reason.split())
        write_json(
            self.path / "status.json",
            {"state": str(state), "reason": one_line, "iteration": iteration, "updated": now},
        )

    def write_result(self, result: Result) -> None:
        """Writes ``result.json``, then says done: the order in which a reader may rely on them."""
        write_json(self.path / "result.json", result.to_dict())
        self.set_status(State.DONE, iteration=result.iterations)


class MetricsLog:
    """``metrics.jsonl``, one line per logged step. A resumed run cuts off what lies behind its checkpoint."""

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        kept = [row for row in self.rows(path) if row["iteration"] <= resume_at]
        with atomic_write(path) as file:
            file.writelines(json.dumps(row) + "\n" for row in kept)
        self._file = path.open("a", encoding="utf-8")

    @staticmethod
    def rows(path: Path) -> list[dict[str, Any]]:
        """All whole lines; a last line that a kill cut in half is left out."""
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one line and hands it to the operating system at once."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
