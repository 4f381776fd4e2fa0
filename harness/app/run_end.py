"""How a run ends: finished, or stopped with one line that says why, which its folder keeps as well."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from pathlib import Path

from harness.core.processes import lost_another, process_rank
from harness.data.images import BadImage
from harness.runs.folder import RunFolder
from harness.runs.integrity import DamagedFileError
from harness.runs.records import State
from harness.training.batches import LoadingError
from harness.training.checkpoint import CheckpointError, NonFiniteWeightsError
from harness.training.state import NonFiniteLossError

LOST = "another process of the run ended; the same command continues the run from its last checkpoint"

# Faults of the world that are foreseen: their message says all, so no traceback is kept.
SAID_PLAINLY = (BadImage, CheckpointError, DamagedFileError, LoadingError, NonFiniteLossError, NonFiniteWeightsError)


class Stopped(Exception):
    """A run that did not finish: refused, failed or interrupted, with one line that says why.

    Refused is what the user wrote and can change; failed is what happened: the disk, the network, the numbers.
    """

    def __init__(self, state: State, reason: str, folder: Path | None = None) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.folder = None if folder is None else str(folder)


class LostProcess(Stopped):
    """What a process says that is left alone: the cause is known by another one, or by the launcher."""


@dataclass(frozen=True)
class Finished:
    """A run whose result stands on disk."""

    folder: Path
    map: float | None  # None: the validation split has no object
    line: str = ""  # what to say of it
    known: bool = False  # an earlier process made it


def failed(folder: RunFolder, error: Exception) -> Stopped:
    """Leaves in the folder what ended a run; processes other than the first leave a traceback at most."""
    writes = process_rank() == 0
    if lost_another(error):
        unwritten = leave_status(folder, State.FAILED, LOST) if writes else ""
        return LostProcess(State.FAILED, f"{LOST}{unwritten}", folder.path)
    reason = os_line(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if isinstance(error, SAID_PLAINLY):
        reason = str(error)
    if isinstance(error, OSError) and folder.checkpoint.exists():
        reason += f"; the same command continues from iteration {saved_iteration(folder)}"
    told = leave_status(folder, State.FAILED, reason) if writes else ""
    if not told and not isinstance(error, SAID_PLAINLY):
        try:
            text = "".join(traceback.format_exception(error))
            folder.file("error.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
            told = f" (traceback in {folder.path}/error.txt)"
        except OSError as second:
            told = _unwritten(second)
    return Stopped(State.FAILED, f"{reason}{told}", folder.path)


def leave_status(folder: RunFolder, state: State, reason: str) -> str:
    """Writes how the run ended; what to add to the reason where a full disk does not take it.

    The status on the disk then stays "running", which is read as "interrupted" once nobody holds the folder's lock.
    """
    try:
        folder.set_status(state, reason, saved_iteration(folder))
    except OSError as error:
        return _unwritten(error)
    return ""


def _unwritten(error: OSError) -> str:
    return f" (and its folder cannot be written: {os_line(error)})"


def os_line(error: Exception) -> str:
    """The file and what the system says of it; of another error, its message."""
    if isinstance(error, NotADirectoryError | FileExistsError) and error.filename:
        path = Path(error.filename)
        files = [one for one in (*reversed(path.parents), path) if os.path.lexists(one) and not one.is_dir()]
        if files:
            return f"{files[0]} is in the way: it is not a folder"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the run folder'}: {error.strerror}"
    return str(error)


def saved_iteration(folder: RunFolder) -> int:
    """The iteration of the last status in the folder; 0 without one."""
    return folder.status.iteration if folder.status else 0


def shown(value: float | None) -> str:
    """An accuracy as a line names it."""
    return "undefined" if value is None else f"{value:.3f}"
