"""The report's files, each written whole or not at all."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from harness.report.build import Report
from harness.report.frame import CORE, RunTable
from harness.report.markup import latex_table, markdown_table
from harness.report.page import page
from harness.report.provenance import commands, facts_table
from harness.report.summary import method_text, noise_text
from harness.report.tables import (
    Cell,
    Table,
    across_table,
    class_table,
    left_out_table,
    main_table,
    sampling_table,
    settings_table,
    stopped_table,
)
from harness.report.words import ACROSS_NOTE, across_text, answer, decomposition_text, question
from harness.runs.records import atomic_write


def write_report(report: Report, folder: Path, latex: bool = False) -> list[Path]:
    """``report.html``, ``report.md``, ``runs.csv``, ``summary.csv`` and on request ``report.tex``.

    Where several data sets were compared also ``across.csv``.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.html": page(report), "report.md": markdown(report)}
    if latex:
        texts["report.tex"] = tex(report)
    for name, text in texts.items():
        with atomic_write(folder / name) as file:
            file.write(text)
    frames = {"runs.csv": varying_only(report.table), "summary.csv": summary_frame(report)}
    if report.across:
        frames["across.csv"] = across_frame(report)
    for name, frame in frames.items():
        with atomic_write(folder / name) as file:
            frame.to_csv(file, index=False)
    return [folder / name for name in (*texts, *frames)]


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
    for judged in report.judged:
        section = judged.section
        for row in section.rows:
            one = row.comparison
            compared = one is not None and one.n > 0
            further = one.further_seeds if one is not None else None
            low, high = one.interval if one is not None else (math.nan, math.nan)
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
                    "p": one.p if one is not None else math.nan,
                    "p_holm": one.p_holm if one is not None else math.nan,
                    "p_sign_flip": row.sign_flip_p,
                    "p_same": one.p_same if one is not None else math.nan,
                    "test": section.test,
                    "margin": section.margin,
                    "verdict": one.verdict if one is not None and compared else None,
                    "further_seeds": further.median if further is not None else None,
                    "further_seeds_low": further.low if further is not None else None,
                    "further_seeds_high": further.high if further is not None else None,
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


def markdown(report: Report) -> str:
    """Words and tables; the plots are on the page."""
    parts = ["# Report"]
    for found in report.across:
        told = "\n".join(f"- {line}" for line in across_text(found))
        parts += [f"## {found.title}", told, markdown_table(across_table(found)), ACROSS_NOTE]
        parts += [f"Note: {note}" for note in found.notes]
    for judged in report.judged:
        section = judged.section
        parts += [f"## {section.context.title}", question(section)]
        said = [*answer(section), *noise_text(judged)]
        parts += ["\n".join(f"- {line}" for line in said), markdown_table(main_table(section))]
        if len(section.rows) > 1 and section.baselines:
            parts.append(method_text(judged, report.options))
        for part in judged.decomposition:
            parts += [f"### What of {part.ohem} is hardness", "\n".join(f"- {s}" for s in decomposition_text(part))]
        notes = [*section.notes, *judged.noise.notes, *judged.warnings]
        parts += ["\n".join(f"- Note: {note}" for note in notes)] if notes else []
        for title, table in (
            ("What was sampled", sampling_table(report.table, section.rows)),
            ("AP by class", class_table(report.table, section.rows)),
            ("Settings in which the methods differ", settings_table(section)),
        ):
            parts += [f"### {title}", markdown_table(table)] if table is not None else []
    return "\n\n".join([*parts, *_ending(report)]) + "\n"


def tex(report: Report) -> str:
    """The main tables (needs the package booktabs)."""
    return (
        "\n".join(
            latex_table(main_table(judged.section), f"{judged.section.context.title}. {question(judged.section)}")
            for judged in report.judged
        )
        or "% no run has a result yet\n"
    )


def _ending(report: Report) -> list[str]:
    out = [] if report.judged else ["No run has a result yet."]
    facts = [[Cell(name), Cell(value)] for name, value in facts_table(report.table)]
    lines = [f"    {line}" for line in commands(report.table)]
    for title, table in (
        ("Failed or refused", stopped_table(report.table)),
        ("Left out", left_out_table(report.table)),
        ("Made with", Table(["fact", "value"], facts) if facts else None),
    ):
        out += [f"## {title}", markdown_table(table)] if table is not None else []
    return [*out, "## Command lines", "\n".join(lines)] if lines else out
