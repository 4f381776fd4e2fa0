"""One job of the command line: runs it, and turns whatever stops it into one line, a status and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from harness.runs.records import State, read_json, write_json
from harness.training.interrupt import StopSignals

log = logging.getLogger("harness")

INTERRUPTED = 130  # exit code of a program that a signal stopped
EXIT_CODES = {State.DONE: 0, State.RUNNING: 0, State.FAILED: 1, State.REFUSED: 2, State.INTERRUPTED: INTERRUPTED}
STOP_FILE = "stopped"  # in a sweep's folder: its jobs save and end, and none begins any more


@dataclass(frozen=True)
class Outcome:
    """How one job ended: ``outcome.json`` in the folder of a sweep's job."""

    state: State
    reason: str = ""  # where not done
    folder: str | None = None  # of the run, where it got one
    map: float | None = None
    overrides: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """For the shell."""
        return EXIT_CODES[self.state]

    def write(self, job_folder: str) -> None:
        """Leaves the outcome where the end of the sweep finds it; jobs may run in other processes."""
        Path(job_folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(job_folder) / "outcome.json", asdict(self))


def read_outcome(sweep: Path, number: int) -> dict[str, Any]:
    """What job ``number`` of a sweep left with :meth:`Outcome.write`.

    Raises:
        FileNotFoundError: it left nothing.
    """
    outcome: dict[str, Any] = read_json(sweep / str(number) / "outcome.json")
    return outcome


def run_job(
    config: DictConfig,
    *,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    sources: Sequence[str],
    sweeping: bool = False,
    stop_file: Path | None = None,
) -> Outcome:
    """Runs or checks one composed configuration; does not raise for what a user can cause.

    Args:
        config: the composed configuration.
        choices: group -> option.
        overrides: the job's part of the command line, for messages.
        sources: folders of the configuration search path, where shadow samplers are looked up.
        sweeping: one of many: its line names the overrides; a sweep that only checks says all at its end.
        stop_file: the job ends, as after a signal, when it exists.
    """
    with StopSignals(stop_file) as stop:
        if stop.requested():
            return Outcome(State.INTERRUPTED, "not begun: the sweep was stopped", overrides=list(overrides))
        try:
            return _outcome(config, choices, overrides, sources, sweeping, stop)
        except KeyboardInterrupt as request:
            reason = f"stopped by {str(request) or 'SIGINT'} before it trained"
            return Outcome(State.INTERRUPTED, reason, overrides=list(overrides))


def _outcome(
    config: DictConfig,
    choices: Mapping[str, str],
    overrides: Sequence[str],
    sources: Sequence[str],
    sweeping: bool,
    stop: StopSignals,
) -> Outcome:
    from harness.app import runner

    try:
        if config.mode == "check":
            runner.check(config, sources)
            return Outcome(State.DONE, overrides=list(overrides))
        finished = runner.run(config, choices=choices, sources=sources, stop=stop)
    except runner.Stopped as end:
        job = f" [{' '.join(overrides)}]" if sweeping else ""
        if not (sweeping and config.mode == "check"):
            log.error("harness: %s%s: %s", end.state, job, listed(end.reason))
        return Outcome(end.state, end.reason, end.folder, overrides=list(overrides))
    return Outcome(State.DONE, folder=str(finished.folder), map=finished.map, overrides=list(overrides))


def listed(reason: str) -> str:
    """A reason for the terminal: its first line, and further ones (the problems of a data set) indented below it."""
    lines = [" ".join(line.split()) for line in reason.splitlines() if line.strip()]
    return "\n  ".join(lines)
