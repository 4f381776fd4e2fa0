"""How long the rest of a sweep takes: one log in its folder, to which each job adds a line as it begins and as it ends.

A job that ends reads this file alone, not what each of the others left. The log is for the estimate only: lines that
cannot be written or read are passed over.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

FILE = "progress.jsonl"


@dataclass
class Progress:
    """What the log says."""

    running: set[int] = field(default_factory=set)  # numbers of jobs
    ended: dict[int, float | None] = field(default_factory=dict)  # number -> seconds; None: it was done before

    @classmethod
    def read(cls, folder: Path, token: str) -> Progress:
        """The progress of the sweep that ``token`` names, from its folder."""
        found = cls()
        try:
            lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return found
        for line in lines:
            with suppress(ValueError, TypeError):  # two jobs wrote at once over a network
                sweep, number, event, seconds = json.loads(line)
                if sweep == token:
                    found._take(number, event, seconds)
        return found

    def _take(self, number: int, event: str, seconds: float | None) -> None:
        if event == "begun":
            self.running.add(number)
            self.ended.pop(number, None)  # a scheduler has put it back in its queue
        else:
            self.running.discard(number)
            self.ended.setdefault(number, seconds)

    def seconds_left(self, jobs: int, number: int) -> float | None:
        """Until all jobs have ended, as job ``number`` sees it; None while none has worked, or where none is left.

        The rest is taken to last as long as the jobs that worked, on as many places as were taken a moment ago. Jobs
        whose result was there already say nothing of it: in a sweep that goes on they come first.
        """
        worked = [seconds for seconds in self.ended.values() if seconds is not None]
        rest = jobs - len(self.ended)
        if not worked or rest < 1:
            return None
        places = min(len(self.running - {number}) + 1, rest)  # the place of a job that ended is taken by the next
        return sum(worked) / len(worked) * rest / places


def note(folder: Path, token: str, number: int, event: str, seconds: float | None = None) -> None:
    """Adds a line: job ``number`` of the sweep has ``begun``, or ``ended`` after so many seconds of work."""
    with suppress(OSError), (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps([token, number, event, seconds]) + "\n")
