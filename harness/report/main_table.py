"""The table that answers a context's question: mean, difference, verdict and cost of each method."""

from __future__ import annotations

import math

from harness.report.cells import count_cell, number_cell, number_column, sort_value
from harness.report.comparison import Row, Section
from harness.report.metric import NAMES
from harness.report.parts import Cell, Column, Order, Table
from harness.report.words import further_text, interval_text, p_text, signed
from harness.statistics import BETTER, NOTHING_LEARNED, OPEN, SAME, WORSE

_COSTS = {"train s": ("train_seconds", 0), "images/s": ("images_per_second", 1), "peak MB": ("peak_memory_mb", 0)}
STYLES = {BETTER: "better", WORSE: "worse", SAME: "same", OPEN: "open", NOTHING_LEARNED: "open"}


def main_table(section: Section) -> Table:
    """Mean, difference from the baseline, verdict and cost of each method."""
    best_first: Order = "descending" if section.metric.higher_is_better else "ascending"
    compared = any(row.comparison is not None for row in section.rows)
    columns = [Column("method")]
    if compared:
        columns.append(Column("verdict", help="of the difference from the baseline"))
    columns.append(number_column(section.metric.name, best_first, help="mean over seeds"))
    columns += [number_column(NAMES[name], help="mean over seeds") for name in section.beside]
    if compared:
        columns += [
            number_column("difference", best_first, help="mean over paired seeds"),
            number_column("interval", best_first, help=_interval_help(section)),
        ]
        if section.rules.test == "anytime":
            told = "expected until a verdict: median (80 % range)"
            columns.append(number_column("further seeds", "ascending", help=told))
        if len({one.baseline for _, one in section.compared} | set(section.baselines)) > 1:
            columns.append(Column("versus", help="the baseline of this method"))
    columns += [
        number_column("seeds"),
        number_column("sd", "ascending", help="standard deviation between seeds"),
    ]
    if compared:
        if any(row.comparison is not None and row.comparison.n < len(row.scores) for row in section.rows):
            columns.append(number_column("pairs", help="seeds that the method and its baseline share"))
        told = "corrected for the number of comparisons"
        columns.append(number_column("p (Holm)", "ascending", extra=True, help=told))
    columns += [number_column(head, extra=head != "train s") for head in _COSTS]
    if any(row.method.stopped for row in section.rows):
        columns.append(number_column("failed", help="runs that failed or were refused"))
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
        "seeds": count_cell(len(row.scores)),
        section.metric.name: number_cell(row.mean),
        **{NAMES[name]: number_cell(row.beside[name]) for name in section.beside},
        "sd": number_cell(row.sd),
        **dict.fromkeys(("versus", "difference", "pairs", "interval", "p (Holm)", "further seeds"), Cell("")),
        "verdict": Cell(headless),
        **{head: number_cell(row.costs[name], digits) for head, (name, digits) in _COSTS.items()},
        "failed": count_cell(len(row.method.stopped)),
    }
    one = row.comparison
    if one is None or not one.n:
        return cells
    further = one.further_seeds
    known = None if further is None else math.inf if further.median is None else float(further.median)
    return cells | {
        "versus": Cell(one.baseline),
        "difference": Cell(signed(one.mean_difference), one.mean_difference),
        "pairs": count_cell(one.n),
        "interval": Cell(interval_text(one.interval), sort_value(one.interval[0])),
        "p (Holm)": Cell(p_text(one.p_holm), sort_value(one.p_holm)),
        "verdict": Cell(one.verdict_text, style=STYLES[one.verdict]),
        "further seeds": Cell(further_text(further), known),
    }


def _head_word(section: Section) -> str:
    """What the row says that the others are compared with."""
    if not section.racing:
        return "baseline"
    if section.nothing_learned:
        return NOTHING_LEARNED
    return "leads" if any(one.verdict == OPEN for _, one in section.compared) else "best"


def _best(section: Section) -> tuple[int, ...]:
    sign = 1 if section.metric.higher_is_better else -1
    known = [(sign * row.mean, i) for i, row in enumerate(section.rows) if math.isfinite(row.mean)]
    return (max(known)[1],) if len(known) > 1 and not section.nothing_learned else ()
