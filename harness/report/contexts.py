"""Which runs may be compared at all: same data, detector, length of training and rules of evaluation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from harness.report.frame import RunTable, Settings
from harness.runs.identity import role_of
from harness.runs.records import State
from harness.runs.roles import Role


@dataclass(frozen=True)
class Context:
    """One set of comparable runs, by row of the table."""

    title: str
    done: tuple[int, ...]
    stopped: tuple[int, ...]  # failed or refused runs that belonged here


def contexts_of(table: RunTable) -> list[Context]:
    """Every set of comparable runs that has at least one result, in order of their first run."""
    groups: dict[Hashable, list[int]] = {}
    frame = table.frame
    for row, state in enumerate(frame["state"]):
        if state == State.DONE:
            groups.setdefault((*_place(table, row), frame["fingerprint"][row]), []).append(row)
    stopped = [row for row, state in enumerate(frame["state"]) if state != State.DONE]
    titles = _titles(table, list(groups.values()))
    out = []
    for title, rows in zip(titles, groups.values(), strict=True):
        # A refused run has no fingerprint: the data's configuration stands in for it.
        known = {(_place(table, row), _data(table.settings[row])) for row in rows}
        here = tuple(row for row in stopped if (_place(table, row), _data(table.settings[row])) in known)
        out.append(Context(title, tuple(rows), here))
    return out


def is_data(key: str) -> bool:
    """Whether a configuration key says what the data are; augmentation is part of the method."""
    return "." in key and role_of(key) is Role.DATA


def is_rule(key: str) -> bool:
    """Whether a configuration key changes what the metrics mean."""
    return "." in key and role_of(key) is Role.EVALUATION


def _place(table: RunTable, row: int) -> tuple[Hashable, ...]:
    settings, frame = table.settings[row], table.frame
    rules = tuple(sorted((key, str(value)) for key, value in settings.items() if is_rule(key) and value is not None))
    return frame["data"][row], frame["detector"][row], settings.get("run.iterations"), rules


def _data(settings: Settings) -> tuple[tuple[str, Hashable], ...]:
    return tuple(sorted((key, value) for key, value in settings.items() if is_data(key)))


def _titles(table: RunTable, groups: Sequence[Sequence[int]]) -> list[str]:
    """Data, detector and iterations; where that is not unique, also the settings of the data that differ."""
    plain = [
        f"{table.frame['detector'][rows[0]]} on {table.frame['data'][rows[0]]}, "
        f"{table.settings[rows[0]].get('run.iterations')} iterations"
        for rows in groups
    ]
    out = []
    for title, rows in zip(plain, groups, strict=True):
        alike = [table.settings[other[0]] for name, other in zip(plain, groups, strict=True) if name == title]
        keys = dict.fromkeys(key for one in alike for key in one if is_data(key) or is_rule(key))
        telling = [key for key in keys if len({one.get(key) for one in alike}) > 1]
        mine = table.settings[rows[0]]
        parts = [f"{key}={mine.get(key)}" for key in telling]
        if len(alike) > 1 and not parts:
            parts = [f"data {str(table.frame['fingerprint'][rows[0]])[:8]}"]
        out.append(", ".join([title, *parts]))
    return out
