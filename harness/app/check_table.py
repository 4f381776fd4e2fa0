"""``mode=check``: can the combination work? Nothing is trained, no folder is made; a sweep prints the whole matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from harness.runs.records import State

Job = Mapping[str, Any]  # an outcome.json


def matrix(jobs: Sequence[Job]) -> str:
    """The verdicts as a table (two varied keys cross, others make a list), then the reasons, once each.

    Args:
        jobs: outcomes with ``overrides`` (``key=value`` strings), ``state`` and ``reason``.
    """
    settings = [dict(text.split("=", 1) for text in job["overrides"]) for job in jobs]
    keys = [key for key in settings[0] if len({setting.get(key) for setting in settings}) > 1]
    reasons: dict[str, int] = {}
    marks = [_mark(job, reasons) for job in jobs]
    if len(keys) == 2:
        table = _crossed(settings, marks, *keys)
    else:
        rows = [[*(setting.get(key) for key in keys), mark] for setting, mark in zip(settings, marks, strict=True)]
        table = tabulate(rows, headers=[*keys, "can work"])
    notes = [f"({number}) {reason}" for reason, number in reasons.items()]
    return "\n".join([table, "", *notes]).rstrip()


def _mark(job: Job, reasons: dict[str, int]) -> str:
    if job["state"] == State.DONE:
        return "yes"
    numbers = [reasons.setdefault(line, len(reasons) + 1) for line in job["reason"].splitlines()]
    return "no " + " ".join(f"({number})" for number in numbers)


def _crossed(settings: Sequence[Mapping[str, str]], marks: Sequence[str], down: str, across: str) -> str:
    cells = {(s[down], s[across]): mark for s, mark in zip(settings, marks, strict=True)}
    columns = list(dict.fromkeys(setting[across] for setting in settings))
    rows = [
        [row, *(cells.get((row, column), "") for column in columns)] for row in dict.fromkeys(s[down] for s in settings)
    ]
    return tabulate(rows, headers=[f"{down} / {across}", *columns])
