"""The tables behind the answer: sampling, classes, settings, data sets, and what is not in any of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.across import Across
from harness.report.cells import count_cell, number_cell, number_column, percent, sort_value
from harness.report.comparison import Row, Section
from harness.report.frame import CORE, RunTable
from harness.report.method_names import MISSING
from harness.report.parts import Cell, Column, Table
from harness.report.words import interval_text, shares_text, signed
from harness.runs.records import State

_SAMPLING = {
    "positives_per_image": "positives / image",
    "negatives_per_image": "negatives / image",
    "truth_per_image": "joined boxes / image",
    "positives_per_object": "positives / object",
    "objects_without_positive": "objects without positive",
    "negatives_below_iou_0.05": "negatives below IoU 0.05",
}
_SHARES = ("objects_without_positive", "negatives_below_iou_0.05")


def across_table(found: Across) -> Table:
    """Gain and probability of improvement of each method over all data sets."""
    columns = [
        Column("method"),
        Column("versus"),
        number_column(f"{found.metric.name} gained"),
        number_column("gained, 95 %"),
        number_column("P(improvement)"),
        number_column("P, 95 %"),
        number_column("ahead on"),
        number_column("paired seeds"),
    ]
    body = [
        [
            Cell(row.label),
            Cell(row.baseline),
            Cell(signed(row.gain), row.gain),
            Cell(interval_text(row.gain_interval), sort_value(row.gain_interval[0])),
            Cell(f"{row.probability:.2f}", row.probability),
            Cell(shares_text(row.probability_interval), sort_value(row.probability_interval[0])),
            Cell(f"{row.ahead} of {len(row.differences)}", row.ahead),
            count_cell(row.pairs),
        ]
        for row in found.rows
    ]
    return Table(columns, body)


def sampling_table(table: RunTable, rows: Sequence[Row]) -> Table | None:
    """What was available and sampled in each stage, mean over seeds; None where no run recorded it."""
    columns = [name for name in map(str, table.frame.columns) if name.startswith("sampling.")]
    places = list(dict.fromkeys(".".join(name.split(".")[1:3]) for name in columns))
    told = {key: head for key, head in _SAMPLING.items() if any(name.endswith(f".{key}") for name in columns)}
    out = []
    for row in rows:
        for place in places:
            values = {key: _mean(table, row.method.done, f"sampling.{place}.{key}") for key in told}
            if any(map(math.isfinite, values.values())):
                cells = [
                    Cell(percent(value), sort_value(value)) if key in _SHARES else number_cell(value, 1)
                    for key, value in values.items()
                ]
                out.append([Cell(row.label), *map(Cell, place.split(".")), *cells])
    heads = [Column("method"), Column("stage"), Column("population"), *map(number_column, told.values())]
    return Table(heads, out) if out else None


def class_table(table: RunTable, rows: Sequence[Row], prefix: str = "ap.") -> Table | None:
    """AP of each class, mean over seeds; None where no class is known.

    ``prefix`` is that of the columns: ``segm.ap.`` for masks, ``keypoints.ap.`` for keypoints.
    """
    names = [str(c) for c in table.frame.columns if str(c).startswith(prefix)]
    values = {name: [_mean(table, row.method.done, name) for row in rows] for name in names}
    known = [name for name in names if any(map(math.isfinite, values[name]))]
    if not known:
        return None
    body = [[Cell(name.removeprefix(prefix)), *map(number_cell, values[name])] for name in known]
    return Table([Column("class"), *(number_column(row.label) for row in rows)], body)


def settings_table(section: Section) -> Table | None:
    """Every setting in which the methods differ, also those that their names leave out; None if there is none."""
    columns = list(section.methods.varying)
    if not columns:
        return None
    body = [
        [Cell(row.label), *(Cell("" if (v := row.method.settings[name]) is MISSING else str(v)) for name in columns)]
        for row in section.rows
    ]
    return Table([Column("method"), *map(Column, columns)], body)


def stopped_table(table: RunTable) -> Table | None:
    """Runs that failed or were refused, with their reasons; None if there is none."""
    frame = table.frame
    rows = [row for row, state in enumerate(frame["state"]) if state != State.DONE]
    columns = [name for name in CORE if name not in ("run", "state", "reason")]
    body = []
    for row in rows:
        what = " ".join(str(frame[name][row]) for name in columns[:-1] if isinstance(frame[name][row], str))
        told = [str(frame["state"][row]), f"{what}, seed {frame['seed'][row]}", str(frame["reason"][row])]
        body.append([Cell(str(frame["run"][row])), *map(Cell, told)])
    return Table(list(map(Column, ("run", "state", "what", "reason"))), body) if body else None


def skipped_table(table: RunTable) -> Table | None:
    """Folders that could not be read; None if there is none."""
    body = [[Cell(one.folder), Cell(one.reason)] for one in table.skipped]
    return Table([Column("folder"), Column("reason")], body) if body else None


def _mean(table: RunTable, rows: Sequence[int], column: str) -> float:
    return float(table.frame[column].iloc[list(rows)].mean()) if column in table.frame else math.nan
