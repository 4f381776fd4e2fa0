"""The report as one list of parts, which every view renders. Nothing here reads a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.report.across import Across
from harness.report.answers import answer, method_text, noise_text, question
from harness.report.build import ContextReport, Report
from harness.report.decomposition import Decomposition
from harness.report.details import details
from harness.report.difference_details import across_figure, differences
from harness.report.evidence import Evidence
from harness.report.findings import ACROSS_NOTE, across_text, decomposition_text
from harness.report.main_table import main_table
from harness.report.parts import Cell, Column, Fold, Heading, Part, Table, Text
from harness.report.provenance import commands, facts_table
from harness.report.tables import across_table, skipped_table, stopped_table
from harness.report.words import counted

TITLE = "Which training samples, and is the difference real?"
_TAKEN_APART = 3  # OHEM arms shown at once; the others are folded


def document_of(report: Report, evidence: Sequence[Evidence] | None = None) -> list[Part]:
    """All parts of a report.

    Args:
        report: the runs, compared.
        evidence: of each context, for figures and pictures; None: the answer, tables and sentences only.
    """
    runs, out = len(report.table.frame), len(report.table.skipped)
    skipped = f", {counted(out, 'folder')} left out" if out else ""
    parts: list[Part] = [Heading(TITLE, 1), Text([f"{counted(runs, 'run')}{skipped}"], "lead")]
    for number, one in enumerate(report.contexts):
        parts += _context(report, one, None if evidence is None else evidence[number], number)
    for number, found in enumerate(report.across):
        parts += _across(found, number, None if evidence is None else report.styles)
    if not report.contexts:
        parts.append(Text(["No run has a result yet."], "answer"))
    return [*parts, *_ending(report)]


def _context(report: Report, one: ContextReport, evidence: Evidence | None, number: int) -> list[Part]:
    section = one.section
    parts: list[Part] = [Heading(section.context.title), Text([question(section)], "question")]
    if one.warnings:
        parts.append(Text(one.warnings, "warning"))
    parts.append(main_table(section))
    if evidence is not None:
        parts += differences(section, evidence, number)
    parts.append(Text([*answer(section), *noise_text(one.noise)], "answer"))
    notes = [method_text(section)] if section.compared else []
    notes += [*one.notes, *one.noise.notes, *(evidence.notes if evidence else ())]
    parts += [Text(notes)] if notes else []
    parts += _decompositions(one.decomposition)
    if evidence is not None:
        parts += details(report.table, section, evidence, number)
    return parts


def _decompositions(found: Sequence[Decomposition]) -> list[Part]:
    """Complete ones with a heading, the first few at once; what is missing for the others as notes."""
    whole = [one for one in found if one.parts]
    parts = [part for one in whole[:_TAKEN_APART] for part in _decomposition(one)]
    if rest := whole[_TAKEN_APART:]:
        inside = [part for one in rest for part in _decomposition(one)]
        parts.append(Fold(f"{len(rest)} more OHEM arms taken apart", inside))
    missing = [line for one in found if not one.parts for line in decomposition_text(one)]
    return [*parts, Fold("OHEM arms that cannot be taken apart", [Text(missing)])] if missing else parts


def _decomposition(found: Decomposition) -> list[Part]:
    title = f"What of {found.ohem} is hardness, and what is its share of positives?"
    return [Heading(title, 3), Text(decomposition_text(found), "answer")]


def _across(found: Across, number: int, styles: Mapping[str, int] | None) -> list[Part]:
    parts: list[Part] = [Heading(found.title), Text(across_text(found), "answer"), across_table(found)]
    parts += [] if styles is None else [across_figure(found, styles, number)]
    return [*parts, Text([ACROSS_NOTE, *found.notes])]


def _ending(report: Report) -> list[Part]:
    parts: list[Part] = []
    for title, table in (
        ("Failed or refused", stopped_table(report.table)),
        ("Left out", skipped_table(report.table)),
    ):
        parts += [Heading(f"{title} ({len(table.rows)})"), table] if table is not None else []
    if facts := facts_table(report.table):
        columns = [Column("fact"), Column("value")]
        rows = [[Cell(name), Cell(value)] for name, value in facts]
        parts.append(Fold("Made with", [Table(columns, rows)]))
    if lines := commands(report.table):
        parts.append(Fold(f"Command lines ({len(lines)})", [Text(lines, "code")]))
    return parts
