"""One run's folder: opened, locked, written whole or not at all, and read back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.runs.integrity import DamagedFileError, file_digest
from harness.runs.locks import FileLock, is_held
from harness.runs.records import (
    TEMPORARY,
    Result,
    State,
    Status,
    check_result,
    read_json,
    write_json,
)

KILLED = "its process ended without a word; the same command continues it"


class FolderBusyError(RuntimeError):
    """Another process is writing this run."""


class RunFolder:
    """The files of one run, ``results/runs/<name>-<hash>/``. Use as a context manager: it holds the folder's lock.

    Raises:
        FolderBusyError: on entering, where another process holds the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")
        self._entered = False

    def __enter__(self) -> RunFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise FolderBusyError(f"{self.path} is being written by another process")
        self._entered = True
        self._remove_leftovers()
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered = False
        self._lock.release()

    def _remove_leftovers(self) -> None:
        """Removes files that a killed process had not finished, and the traceback of an earlier attempt."""
        (self.path / "error.txt").unlink(missing_ok=True)
        for path in [*self.path.glob(".*"), *self.path.glob("mined/.*")]:
            if TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    @property
    def checkpoint(self) -> Path:
        """The newest training state."""
        return self.path / "checkpoint.pt"

    @property
    def status(self) -> Status | None:
        """What the run last said of itself; ``None`` before it said anything, or where that cannot be read.

        A run that says "running" while no process holds its lock was killed: it is shown as interrupted.
        """
        try:
            raw = read_json(self.path / "status.json")
            status = Status(**{**raw, "state": State(raw["state"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if status.state is State.RUNNING and not self._entered and not is_held(self.path / ".lock"):
            return replace(status, state=State.INTERRUPTED, reason=KILLED)
        return status

    @property
    def finished(self) -> bool:
        """Whether a whole result stands there.

        Raises:
            DamagedFileError: the run says it is done, but a file of its result is damaged.
        """
        status = self.status
        if status is None or status.state is not State.DONE:
            return False
        names = ("result.json", "detections.json", "config.yaml")
        if any(not (self.path / name).exists() for name in names):
            return False
        self._check_detections()
        return True

    def result(self) -> dict[str, Any]:
        """``result.json`` of a finished run.

        Raises:
            FileNotFoundError: there is none.
            DamagedFileError: its checksum is wrong, keys are missing or numbers are out of their range.
        """
        path = self.path / "result.json"
        try:
            return check_result(read_json(path), path)
        except ValueError as error:
            raise DamagedFileError(f"{error}; {_again(path)}") from None

    def detections(self) -> list[dict[str, Any]]:
        """``detections.json`` of a finished run, compared with the checksum in its result.

        Raises:
            FileNotFoundError: there is none.
            DamagedFileError: it is not what the run wrote.
        """
        value: list[dict[str, Any]] = read_json(self._check_detections())
        return value

    def _check_detections(self) -> Path:
        path = self.path / "detections.json"
        expected = self.result().get("files", {}).get(path.name)
        if expected is not None and file_digest(path) != expected:
            raise DamagedFileError(f"{path} is damaged: its checksum is wrong; {_again(path)}")
        return path

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


def settle(runs: Path) -> None:
    """Corrects the status of all folders of ``runs`` that a killed process left as "running"."""
    for path in sorted(runs.glob("*/status.json")):
        folder = RunFolder(path.parent)
        status = folder.status
        if status is not None and status.reason == KILLED:
            with suppress(FolderBusyError, OSError), folder:  # somebody continues it just now, or it is read-only
                if folder.status is not None and folder.status.state is State.RUNNING:
                    folder.set_status(State.INTERRUPTED, KILLED, status.iteration)


def _again(path: Path) -> str:
    return f"remove {path}, and the same command makes it again"
