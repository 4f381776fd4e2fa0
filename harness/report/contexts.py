"""Which runs may be compared at all: same data, detector, length of training and rules of evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from harness.report.frame import RunTable, Settings
from harness.report.presets import keys_of_presets
from harness.runs.identity import role_of
from harness.runs.records import State
from harness.runs.roles import Role

_FIXED = (Role.DETECTOR, Role.DATA, Role.LENGTH, Role.EVALUATION)  # differences in these keys are not comparable


@dataclass(frozen=True)
class Context:
    """One set of comparable runs, by row of the table."""

    title: str
    done: tuple[int, ...]
    stopped: tuple[int, ...]  # failed or refused runs that belonged here


def contexts_of(table: RunTable) -> list[Context]:
    """Every set of comparable runs that has at least one result, those with most results first, then by title.

    Runs of different data (by content or by configuration), detectors, settings of the detector, numbers of iterations
    or rules of evaluation are never in one context. Settings of the detector that an option of an experiment writes are
    part of that option, and so of the method.
    """
    written = keys_of_presets(table)
    groups: dict[tuple[Hashable, Hashable], list[int]] = {}
    stopped: dict[Hashable, list[int]] = {}  # a refused run has no fingerprint: the configuration stands in for it
    known = table.frame.get("fingerprint")  # None where no run is done
    fingerprints = [] if known is None else known.tolist()
    for row, state in enumerate(table.frame["state"]):
        place = _place(table, row, written)
        if state == State.DONE:
            groups.setdefault((place, fingerprints[row]), []).append(row)
        else:
            stopped.setdefault(place, []).append(row)
    titles = _titles(table, list(groups.values()), written)
    found = [
        Context(title, tuple(rows), tuple(stopped.get(place, ())))
        for title, ((place, _), rows) in zip(titles, groups.items(), strict=True)
    ]
    return sorted(found, key=lambda context: (-len(context.done), context.title))


def _place(table: RunTable, row: int, written: frozenset[str]) -> tuple[Hashable, ...]:
    settings, frame = table.settings[row], table.frame
    fixed = tuple(sorted((key, str(value)) for key, value in settings.items() if _is_fixed(key, written, value)))
    return frame["data"][row], frame["detector"][row], fixed


def _is_fixed(key: str, written: frozenset[str], value: Hashable = "") -> bool:
    return "." in key and value is not None and key not in written and role_of(key) in _FIXED


def _titles(table: RunTable, groups: Sequence[Sequence[int]], written: frozenset[str]) -> list[str]:
    """Data, detector and iterations; where these are not unique, also the settings that differ; unique in the end."""
    plain = [
        f"{table.frame['detector'][rows[0]]} on {table.frame['data'][rows[0]]}, "
        f"{table.settings[rows[0]].get('run.iterations')} iterations"
        for rows in groups
    ]
    titles = []
    for title, rows in zip(plain, groups, strict=True):
        alike = [table.settings[other[0]] for name, other in zip(plain, groups, strict=True) if name == title]
        titles.append(", ".join([title, *_differing(table.settings[rows[0]], alike, written)]))
    counts = Counter(titles)
    marked = [
        f"{title}, data {str(table.frame['fingerprint'][rows[0]])[:8]}" if counts[title] > 1 else title
        for title, rows in zip(titles, groups, strict=True)
    ]
    seen: Counter[str] = Counter()
    out = []
    for title in marked:
        seen[title] += 1
        out.append(title if seen[title] == 1 else f"{title} #{seen[title]}")
    return out


def _differing(mine: Settings, alike: Sequence[Settings], written: frozenset[str]) -> list[str]:
    keys = dict.fromkeys(key for one in alike for key in one if _is_fixed(key, written) and key != "run.iterations")
    return [f"{key}={mine.get(key, 'not set')}" for key in keys if len({str(one.get(key)) for one in alike}) > 1]
