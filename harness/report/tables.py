"""The tables of a report, made once and written as HTML, Markdown, text or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.across import Across
from harness.report.comparison import Row, Section
from harness.report.frame import CORE, RunTable
from harness.report.methods import MISSING
from harness.report.words import interval_text, number, p_text, shares_text, signed
from harness.runs.records import State
from harness.statistics import BETTER, WORSE, FurtherSeeds

_COSTS = {"train s": ("train_seconds", 0), "images/s": ("images_per_second", 1), "peak MB": ("peak_memory_mb", 0)}
_SAMPLING = {
    "positives_per_image": "positives / image",
    "negatives_per_image": "negatives / image",
    "truth_per_image": "joined boxes / image",
    "positives_per_object": "positives / object",
    "objects_without_positive": "objects without positive",
    "negatives_below_iou_0.05": "negatives below IoU 0.05",
}
_SHARES = ("objects_without_positive", "negatives_below_iou_0.05")


@dataclass(frozen=True)
class Cell:
    """What is shown, what is sorted by, and how it looks (a verdict's colour)."""

    text: str
    value: float | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A head and rows of cells; the first column names the row."""

    headers: list[str]
    rows: list[list[Cell]]
    bold: tuple[int, ...] = ()  # rows to emphasise

    def without(self, heads: Sequence[str]) -> Table:
        """The table without some columns."""
        kept = [j for j, head in enumerate(self.headers) if head not in heads]
        return Table([self.headers[j] for j in kept], [[row[j] for j in kept] for row in self.rows], self.bold)


def main_table(section: Section) -> Table:
    """Mean, difference from the baseline, verdict and cost of each method."""
    headers = ["method", section.metric.name, "± sd", "seeds"]
    if len(section.baselines) > 1:
        headers.append("versus")
    if any(row.comparison is not None for row in section.rows):
        headers += ["verdict", "difference"]
        if any(row.comparison is not None and row.comparison.n < len(row.scores) for row in section.rows):
            headers.append("pairs")
        headers += ["95 % interval", "p (Holm)", "p sign-flip", "further seeds"]
    headers += list(_COSTS)
    if any(row.method.stopped for row in section.rows):
        headers.append("failed")
    rows = [_main_cells(row, section) for row in section.rows]
    return Table(headers, [[cells[head] for head in headers] for cells in rows], _best(section))


def _main_cells(row: Row, section: Section) -> dict[str, Cell]:
    """Every cell by its head."""
    cells = {
        "method": Cell(row.label),
        "seeds": _count(len(row.scores)),
        section.metric.name: _number(row.mean),
        "± sd": _number(row.sd),
        "versus": Cell(""),
        **dict.fromkeys(("difference", "pairs", "95 % interval", "p (Holm)", "p sign-flip", "further seeds"), Cell("")),
        "verdict": Cell("baseline" if row.label in section.baselines else "not compared", style="undecided"),
        **{head: _number(row.costs[name], digits) for head, (name, digits) in _COSTS.items()},
        "failed": _count(len(row.method.stopped)),
    }
    one = row.comparison
    if one is None or not one.n:
        return cells
    return cells | {
        "versus": Cell(one.baseline),
        "difference": Cell(signed(one.mean_difference), one.mean_difference),
        "pairs": _count(one.n),
        "95 % interval": Cell(interval_text(one.interval), _known(one.interval[0])),
        "p (Holm)": Cell(p_text(one.p_holm), _known(one.p_holm)),
        "p sign-flip": Cell(p_text(row.sign_flip_p), _known(row.sign_flip_p)),
        "verdict": Cell(one.verdict_text, style={BETTER: "good", WORSE: "bad"}.get(one.verdict, "undecided")),
        "further seeds": _further(one.further_seeds),
    }


def _further(expected: FurtherSeeds | None) -> Cell:
    """Median and 80 % range; sorted by the median, "more than" last."""
    if expected is None:
        return Cell("—")
    return Cell(str(expected), expected.limit + 1 if expected.median is None else expected.median)


def _best(section: Section) -> tuple[int, ...]:
    sign = 1 if section.metric.higher_is_better else -1
    known = [(sign * row.mean, i) for i, row in enumerate(section.rows) if math.isfinite(row.mean)]
    return (max(known)[1],) if len(known) > 1 else ()


def across_table(found: Across) -> Table:
    """Gain and probability of improvement of each method over all data sets."""
    name = found.metric.name
    heads = [
        "method",
        "versus",
        f"{name} gained",
        "gained, 95 %",
        "P(improvement)",
        "P, 95 %",
        "ahead on",
        "paired seeds",
    ]
    body = [
        [
            Cell(row.label),
            Cell(row.baseline),
            Cell(signed(row.gain), row.gain),
            Cell(interval_text(row.gain_interval), _known(row.gain_interval[0])),
            Cell(f"{row.probability:.2f}", row.probability),
            Cell(shares_text(row.probability_interval), _known(row.probability_interval[0])),
            Cell(f"{row.ahead} of {len(row.differences)}", row.ahead),
            _count(row.pairs),
        ]
        for row in found.rows
    ]
    return Table(heads, body)


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
                    Cell(_percent(value), _known(value)) if key in _SHARES else _number(value, 1)
                    for key, value in values.items()
                ]
                out.append([Cell(row.label), *map(Cell, place.split(".")), *cells])
    return Table(["method", "stage", "population", *told.values()], out) if out else None


def class_table(table: RunTable, rows: Sequence[Row]) -> Table | None:
    """AP of each class, mean over seeds; None where no class is known."""
    names = [str(c) for c in table.frame.columns if str(c).startswith("ap.")]
    values = {name: [_mean(table, row.method.done, name) for row in rows] for name in names}
    known = [name for name in names if any(map(math.isfinite, values[name]))]
    if not known:
        return None
    body = [[Cell(name.removeprefix("ap.")), *map(_number, values[name])] for name in known]
    return Table(["class", *(row.label for row in rows)], body)


def settings_table(section: Section) -> Table | None:
    """Every setting in which the methods differ, also those that their names leave out; None if there is none."""
    columns = list(section.methods.varying)
    if not columns:
        return None
    body = [
        [Cell(row.label), *(Cell("" if (v := row.method.settings[name]) is MISSING else str(v)) for name in columns)]
        for row in section.rows
    ]
    return Table(["method", *columns], body)


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
    return Table(["run", "state", "what", "reason"], body) if body else None


def left_out_table(table: RunTable) -> Table | None:
    """Folders that could not be read; None if there is none."""
    body = [[Cell(one.folder), Cell(one.reason)] for one in table.left_out]
    return Table(["folder", "reason"], body) if body else None


def _mean(table: RunTable, rows: Sequence[int], column: str) -> float:
    return float(table.frame[column].iloc[list(rows)].mean()) if column in table.frame else math.nan


def _number(value: float, digits: int | None = None) -> Cell:
    if math.isnan(value):
        return Cell("—")
    return Cell(number(value) if digits is None else f"{value:,.{digits}f}", value)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _count(value: int) -> Cell:
    return Cell(str(value), value)


def _percent(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.1%}".replace("%", " %")
