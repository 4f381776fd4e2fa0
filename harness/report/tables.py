"""The tables of a report. A column says how it is aligned, and in which order a first click sorts it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.report.across import Across
from harness.report.comparison import Row, Section
from harness.report.frame import CORE, RunTable
from harness.report.methods import MISSING
from harness.report.metric import NAMES
from harness.report.parts import Cell, Column, Order, Table
from harness.report.words import further_text, interval_text, number, p_text, shares_text, signed
from harness.runs.records import State
from harness.statistics import BETTER, OPEN, SAME, WORSE

_COSTS = {"train s": ("train_seconds", 0), "images/s": ("images_per_second", 1), "peak MB": ("peak_memory_mb", 0)}
STYLES = {BETTER: "better", WORSE: "worse", SAME: "same", OPEN: "open"}
UNKNOWN = "—"
_SAMPLING = {
    "positives_per_image": "positives / image",
    "negatives_per_image": "negatives / image",
    "truth_per_image": "joined boxes / image",
    "positives_per_object": "positives / object",
    "objects_without_positive": "objects without positive",
    "negatives_below_iou_0.05": "negatives below IoU 0.05",
}
_SHARES = ("objects_without_positive", "negatives_below_iou_0.05")


def _number_column(head: str, first_click: Order = "descending", extra: bool = False, help: str = "") -> Column:
    return Column(head, "right", first_click, extra, help)


def main_table(section: Section) -> Table:
    """Mean, difference from the baseline, verdict and cost of each method."""
    best_first: Order = "descending" if section.metric.higher_is_better else "ascending"
    compared = any(row.comparison is not None for row in section.rows)
    columns = [Column("method")]
    if compared:
        columns.append(Column("verdict", help="of the difference from the baseline"))
    columns.append(_number_column(section.metric.name, best_first, help="mean over seeds"))
    columns += [_number_column(NAMES[name], help="mean over seeds") for name in section.beside]
    if compared:
        columns += [
            _number_column("difference", best_first, help="mean over paired seeds"),
            _number_column("interval", best_first, help=_interval_help(section)),
        ]
        if section.rules.test == "anytime":
            told = "expected until a verdict: median (80 % range)"
            columns.append(_number_column("further seeds", "ascending", help=told))
        if len({one.baseline for _, one in section.compared} | set(section.baselines)) > 1:
            columns.append(Column("versus", help="the baseline of this method"))
    columns += [
        _number_column("seeds"),
        _number_column("sd", "ascending", help="standard deviation between seeds"),
    ]
    if compared:
        if any(row.comparison is not None and row.comparison.n < len(row.scores) for row in section.rows):
            columns.append(_number_column("pairs", help="seeds that the method and its baseline share"))
        told = "corrected for the number of comparisons"
        columns.append(_number_column("p (Holm)", "ascending", extra=True, help=told))
    columns += [_number_column(head, extra=head != "train s") for head in _COSTS]
    if any(row.method.stopped for row in section.rows):
        columns.append(_number_column("failed", help="runs that failed or were refused"))
    rows = [_main_cells(row, section) for row in section.rows]
    return Table(columns, [[cells[column.head] for column in columns] for cells in rows], _best(section))


def _interval_help(section: Section) -> str:
    level = next((one.level for _, one in section.compared), 0.95)
    anytime = section.rules.test == "anytime"
    valid = "valid after every seed" if anytime else "valid for a number of seeds fixed beforehand"
    together = f"so that all hold together at {100 * (1 - section.rules.alpha):.4g} %"
    return f"of the mean difference at {100 * level:.4g} %, {together}; {valid}"


def _main_cells(row: Row, section: Section) -> dict[str, Cell]:
    """Every cell by its column."""
    headless = _head_word(section) if row.label in section.baselines else "not compared"
    cells = {
        "method": Cell(f"{row.label} (!)" if row.marks else row.label),
        "seeds": _count(len(row.scores)),
        section.metric.name: _number(row.mean),
        **{NAMES[name]: _number(row.beside[name]) for name in section.beside},
        "sd": _number(row.sd),
        **dict.fromkeys(("versus", "difference", "pairs", "interval", "p (Holm)", "further seeds"), Cell("")),
        "verdict": Cell(headless),
        **{head: _number(row.costs[name], digits) for head, (name, digits) in _COSTS.items()},
        "failed": _count(len(row.method.stopped)),
    }
    one = row.comparison
    if one is None or not one.n:
        return cells
    further = one.further_seeds
    known = None if further is None else math.inf if further.median is None else float(further.median)
    return cells | {
        "versus": Cell(one.baseline),
        "difference": Cell(signed(one.mean_difference), one.mean_difference),
        "pairs": _count(one.n),
        "interval": Cell(interval_text(one.interval), _known(one.interval[0])),
        "p (Holm)": Cell(p_text(one.p_holm), _known(one.p_holm)),
        "verdict": Cell("nothing learned", style="open") if section.nothing_learned else
                   Cell(one.verdict_text, style=STYLES[one.verdict]),
        "further seeds": Cell(UNKNOWN if section.nothing_learned else further_text(further), known),
    }  # fmt: skip


def _head_word(section: Section) -> str:
    """What the row says that the others are compared with."""
    if not section.racing:
        return "baseline"
    return "leads" if any(one.verdict == OPEN for _, one in section.compared) else "best"


def _best(section: Section) -> tuple[int, ...]:
    sign = 1 if section.metric.higher_is_better else -1
    known = [(sign * row.mean, i) for i, row in enumerate(section.rows) if math.isfinite(row.mean)]
    return (max(known)[1],) if len(known) > 1 and not section.nothing_learned else ()


def across_table(found: Across) -> Table:
    """Gain and probability of improvement of each method over all data sets."""
    columns = [
        Column("method"),
        Column("versus"),
        _number_column(f"{found.metric.name} gained"),
        _number_column("gained, 95 %"),
        _number_column("P(improvement)"),
        _number_column("P, 95 %"),
        _number_column("ahead on"),
        _number_column("paired seeds"),
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
                    Cell(_percent(value), _known(value)) if key in _SHARES else _number(value, 1)
                    for key, value in values.items()
                ]
                out.append([Cell(row.label), *map(Cell, place.split(".")), *cells])
    heads = [Column("method"), Column("stage"), Column("population"), *map(_number_column, told.values())]
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
    body = [[Cell(name.removeprefix(prefix)), *map(_number, values[name])] for name in known]
    return Table([Column("class"), *(_number_column(row.label) for row in rows)], body)


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


def _number(value: float, digits: int | None = None) -> Cell:
    if math.isnan(value):
        return Cell(UNKNOWN)
    return Cell(number(value) if digits is None else f"{value:,.{digits}f}", value)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _count(value: int) -> Cell:
    return Cell(str(value), value)


def _percent(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.1%}".replace("%", " %")
