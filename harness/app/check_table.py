"""``mode=check`` over a sweep: which combinations can work, as tables that fit the terminal, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from harness.runs.records import State

Job = Mapping[str, Any]  # an outcome of a job
Settings = Mapping[str, str]  # of one job: key -> value


def matrix(jobs: Sequence[Job], width: int = 100) -> str:
    """The verdicts as tables no wider than ``width`` characters, then the reasons, once each.

    One varied key goes across, the one with the fewest values; all others make the rows.

    Args:
        jobs: outcomes with ``overrides`` (``key=value`` strings), ``state`` and ``reason``.
        width: of the terminal.
    """
    settings = [dict(text.partition("=")[::2] for text in job["overrides"]) for job in jobs]
    keys = [key for key in (settings[0] if settings else ()) if len({one.get(key) for one in settings}) > 1]
    reasons: dict[str, int] = {}
    marks = [_mark(job, reasons) for job in jobs]
    possible = sum(job["state"] == State.DONE for job in jobs)
    notes = [f"({number}) {reason}" for reason, number in reasons.items()]
    count = f"{possible} of {len(jobs)} combinations can work"
    if len(keys) < 2:
        rows = [[*(one.get(key) for key in keys), mark] for one, mark in zip(settings, marks, strict=True)]
        tables = [tabulate(rows, headers=[*keys, "can work"])]
    else:
        across = min(keys, key=lambda key: len({one.get(key) for one in settings}))
        tables = list(_crossed(settings, marks, [key for key in keys if key != across], across, width))
    return "\n".join([*("\n\n".join(tables)).splitlines(), "", count, *notes]).rstrip()


def _mark(job: Job, reasons: dict[str, int]) -> str:
    if job["state"] == State.DONE:
        return "yes"
    numbers = [reasons.setdefault(line, len(reasons) + 1) for line in job["reason"].splitlines()]
    return "no " + " ".join(f"({number})" for number in numbers)


def _crossed(
    settings: Sequence[Settings], marks: Sequence[str], down: Sequence[str], across: str, width: int
) -> Iterator[str]:
    cells = {(_row(one, down), one[across]): mark for one, mark in zip(settings, marks, strict=True)}
    columns = list(dict.fromkeys(one[across] for one in settings))
    rows = list(dict.fromkeys(_row(one, down) for one in settings))
    head = f"{' '.join(down)} / {across}"
    shown = len(columns)
    while columns:
        table = tabulate(
            [[row, *(cells.get((row, column), "") for column in columns[:shown])] for row in rows],
            headers=[head, *columns[:shown]],
        )
        if max(map(len, table.splitlines())) > width and shown > 1:
            shown -= 1
            continue
        yield table
        columns = columns[shown:]
        shown = len(columns)


def _row(setting: Settings, keys: Sequence[str]) -> str:
    return " ".join(str(setting.get(key, "")) for key in keys)
