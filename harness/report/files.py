"""The report's files, each written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from harness.report.build import Report
from harness.report.frame import CORE, RunTable
from harness.report.parts import Part
from harness.report.views.latex import render_latex
from harness.report.views.markdown import render_markdown
from harness.runs.records import atomic_write

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs cells that begin like this


def write_report(report: Report, parts: Sequence[Part], folder: Path, latex: bool = False) -> list[Path]:
    """``report.html``, ``report.md``, ``runs.csv``, ``summary.csv`` and on request ``report.tex``.

    Where several data sets were compared also ``across.csv``.

    Raises:
        OSError: the folder cannot be written.
    """
    from harness.report.views.html import render_page  # Jinja2 and plotly are wanted at the end only

    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.html": render_page(parts), "report.md": render_markdown(parts)}
    if latex:
        texts["report.tex"] = render_latex(parts)
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    frames = {"runs.csv": varying_only(report.table), "summary.csv": summary_frame(report)}
    if report.across:
        frames["across.csv"] = across_frame(report)
    for name, frame in frames.items():
        with atomic_write(folder / name) as file:
            without_formulas(frame).to_csv(file, index=False)
    return [folder / name for name in (*texts, *frames)]


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts, also names of columns, that a spreadsheet would run as formulas."""
    texts = [name for name, kind in frame.dtypes.items() if not is_numeric_dtype(kind)]
    safe = frame.assign(**{str(name): frame[name].map(_safe) for name in texts})
    return safe.rename(columns=_safe)


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def varying_only(table: RunTable) -> pd.DataFrame:
    """All runs with what was measured and chosen; of the other settings only those in which the runs differ."""
    settings = {name for one in table.settings for name in one} - {*table.choice_columns, *CORE}
    same = [
        name
        for name in settings
        if name in table.frame and len({one.get(name, "not set") for one in table.settings}) == 1
    ]
    return table.frame.drop(columns=same)


def summary_frame(report: Report) -> pd.DataFrame:
    """One row per method and context: what the main table shows, in full precision."""
    rows = []
    for one_context in report.contexts:
        section = one_context.section
        for row in section.rows:
            one = row.comparison
            compared = one is not None and one.n > 0
            low, high = one.interval if one is not None else (math.nan, math.nan)
            further = one.further_seeds if one is not None else None
            rows.append(
                {
                    "context": section.context.title,
                    "method": row.label,
                    "metric": section.metric.column,
                    "seeds": len(row.scores),
                    "mean": row.mean,
                    "sd": row.sd,
                    "baseline": one.baseline if one is not None else None,
                    "pairs": one.n if one is not None else 0,
                    "difference": one.mean_difference if one is not None else math.nan,
                    "interval_low": low,
                    "interval_high": high,
                    "interval_level": one.level if one is not None else math.nan,
                    "p": one.p if one is not None else math.nan,
                    "p_holm": one.p_holm if one is not None else math.nan,
                    "p_same": one.p_same if one is not None else math.nan,
                    "test": section.rules.test,
                    "alpha": section.rules.alpha,
                    "goal": section.rules.goal,
                    "margin": section.rules.margin,
                    "verdict": one.verdict if one is not None and compared else None,
                    "further_seeds": further.median if further is not None else None,
                    "further_seeds_low": further.low if further is not None else None,
                    "further_seeds_high": further.high if further is not None else None,
                    **{name: row.beside[name] for name in section.beside},
                    **row.costs,
                    "failed": len(row.method.stopped),
                    **{f"setting.{name}": str(value) for name, value in row.method.settings.items()},
                }
            )
    return pd.DataFrame(rows)


def across_frame(report: Report) -> pd.DataFrame:
    """One row per method and detector over several data sets, in full precision."""
    return pd.DataFrame(
        {
            "detector": found.detector,
            "method": row.label,
            "baseline": row.baseline,
            "metric": found.metric.column,
            "data_sets": len(row.differences),
            "pairs": row.pairs,
            "gain_iqm": row.gain,
            "gain_low": row.gain_interval[0],
            "gain_high": row.gain_interval[1],
            "probability_of_improvement": row.probability,
            "probability_low": row.probability_interval[0],
            "probability_high": row.probability_interval[1],
            "ahead": row.ahead,
        }
        for found in report.across
        for row in found.rows
    )
