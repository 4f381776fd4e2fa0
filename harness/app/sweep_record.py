"""What the jobs of a sweep know of it, from a file in its folder: how many they are, and when it began."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.app import time_left
from harness.runs.records import read_json, write_json

FILE = "sweep.json"


@dataclass(frozen=True)
class SweepRecord:
    """``sweep.json``."""

    token: str  # names this sweep among all that use the same folder
    jobs: int | None  # None: the sweeper decides as it goes
    started: float  # seconds since the epoch
    folder: str
    varied: list[str] | None  # keys that differ between the jobs

    @classmethod
    def begin(
        cls, folder: Path, jobs: Sequence[Sequence[str]] | None, swept: Sequence[str] | None = None
    ) -> SweepRecord:
        """Writes the record of a sweep that starts now.

        Args:
            folder: of the sweep.
            jobs: the overrides of every job, where they are known.
            swept: the keys that the sweeper varies, for where they are not.
        """
        folder.mkdir(parents=True, exist_ok=True)
        count, varied = (None, list(swept or ()) or None) if jobs is None else (len(jobs), varied_keys(jobs))
        record = cls(uuid.uuid4().hex, count, time.time(), str(folder), varied)
        (folder / time_left.FILE).unlink(missing_ok=True)
        write_json(folder / FILE, asdict(record))
        return record

    @classmethod
    def read(cls, folder: Path) -> SweepRecord:
        """The record in a sweep's folder; one that knows nothing where a user's configuration left out its callback."""
        try:
            return cls(**{**read_json(folder / FILE), "folder": str(folder)})  # as it is reached from here
        except (OSError, ValueError, TypeError):
            return cls("", None, time.time(), str(folder), None)

    def outcomes(self) -> list[dict[str, Any]]:
        """How the jobs of this sweep ended, by number; those of another sweep in the same folder are left out."""
        return sorted(self._named("outcome-*.json"), key=lambda outcome: outcome["number"])

    def outcome(self, number: int) -> dict[str, Any] | None:
        """How one job ended; None where it left nothing. Reads no other job's file: a sweep may have thousands."""
        return next(self._named(f"outcome-{number}.json"), None)

    def _named(self, pattern: str) -> Iterator[dict[str, Any]]:
        """What this sweep left in the files of that name."""
        for path in Path(self.folder).rglob(pattern):
            try:
                outcome = read_json(path)
            except (OSError, ValueError):
                continue
            if outcome.get("sweep") == self.token:
                yield outcome

    def note_begin(self, number: int) -> None:
        """Job ``number`` begins."""
        if self.jobs:
            time_left.note(Path(self.folder), self.token, number, "begun")

    def note_end(self, number: int, seconds: float | None) -> None:
        """Job ``number`` has ended after so many seconds of work; None: its result was there already."""
        if self.jobs:
            time_left.note(Path(self.folder), self.token, number, "ended", seconds)

    def remaining(self, number: int) -> str:
        """``, about 12 min left`` as job ``number`` sees it; nothing before a job has worked."""
        progress = time_left.Progress.read(Path(self.folder), self.token) if self.jobs else None
        seconds = progress.seconds_left(self.jobs, number) if progress and self.jobs else None
        return "" if seconds is None else f", about {minutes(seconds)} left"


def varied_keys(jobs: Sequence[Sequence[str]]) -> list[str]:
    """The keys of the overrides in which ``jobs`` differ, in their order."""
    settings = [dict(text.partition("=")[::2] for text in job) for job in jobs]
    return [key for key in (settings[0] if settings else ()) if len({one.get(key) for one in settings}) > 1]


def minutes(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3 h 20 min``.

    >>> minutes(40), minutes(725), minutes(12_000)
    ('40 s', '12 min', '3 h 20 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 100 else f"{whole // 60} h {whole % 60} min"


def count_jobs(overrides: Sequence[str], config_loader: Any) -> list[list[str]]:
    """The overrides of every job that Hydra's basic sweeper makes of ``overrides``.

    Args:
        overrides: the command line's and the sweep file's.
        config_loader: Hydra's, which knows what ``glob(*)`` means.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create(config_loader=config_loader).parse_overrides(list(overrides))
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return jobs
