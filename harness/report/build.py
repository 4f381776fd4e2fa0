"""A report's content, before it is written as anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.report.across import Across, across_data_sets
from harness.report.baselines import meets, parse_conditions
from harness.report.comparison import Section, section_of
from harness.report.contexts import contexts_of
from harness.report.decomposition import Decomposition, decompose
from harness.report.fairness import unequal_inside, unequal_settings
from harness.report.folders import ReportError
from harness.report.frame import RunTable, read_table
from harness.report.image_noise import ImageNoise, image_noise
from harness.report.method_styles import method_styles
from harness.report.methods import columns_named, value_of
from harness.report.metric import Metric, metric
from harness.report.provenance import warnings_of
from harness.report.rules import Options, rules_of
from harness.report.sweeps import find_sweeps


@dataclass(frozen=True)
class ContextReport:
    """One context with all that is said about it."""

    section: Section
    decomposition: list[Decomposition]
    noise: ImageNoise
    warnings: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Report:
    """Everything that is known of the runs under one folder."""

    table: RunTable
    options: Options
    contexts: list[ContextReport]
    across: list[Across]

    @cached_property
    def styles(self) -> dict[str, int]:
        """The style of every method, the same in all contexts."""
        sections = [one.section for one in self.contexts]
        return method_styles([([row.label for row in one.rows], one.baselines) for one in sections])


def build_report(folders: Sequence[Path], options: Options) -> Report:
    """Reads the runs and compares them.

    Raises:
        ReportError: a metric, a setting to group by or a baseline that no run has; the message names the valid ones.
    """
    table = read_table(folders)
    contexts = contexts_of(table)
    if not contexts:
        return Report(table, options, [], [])
    by = metric(options.metric, table.frame)
    conditions = None if options.baseline is None else parse_conditions(options.baseline)
    if conditions is not None:
        _check_baseline(table, conditions, [row for context in contexts for row in context.done])
    sweeps = find_sweeps(table.paths)
    sections = [
        section_of(table, context, by, options.group_by, rules_of(table, context, by, options, sweeps))
        for context in contexts
    ]
    if conditions is not None and not any(
        meets(table, row.method, conditions) for section in sections for row in section.rows
    ):
        raise ReportError(f"--baseline {options.baseline}: no method has these settings in all of its runs")
    reports = [_report_of(table, section, by) for section in sections]
    return Report(table, options, reports, across_data_sets(table, sections))


def _report_of(table: RunTable, section: Section, by: Metric) -> ContextReport:
    return ContextReport(
        section=section,
        decomposition=decompose(table, section) if by.higher_is_better else [],
        noise=image_noise(table, section),
        warnings=[*_marks(section), *unequal_settings(table, section), *warnings_of(table, section.context.done)],
        notes=[*section.notes, *unequal_inside(table, section)],
    )


def _marks(section: Section) -> list[str]:
    """What the guard saw of each method, as it is marked in the table."""
    return [f"(!) {row.label}: {mark}." for row in section.rows for mark in row.marks]


def _check_baseline(table: RunTable, conditions: Mapping[str, str], rows: Sequence[int]) -> None:
    known = dict.fromkeys(name for row in rows for name in table.settings[row])
    for name, value in conditions.items():
        if name not in known:
            near = [column for column in known if column in columns_named(name, list(known))]
            valid = ", ".join(near[:20] or table.choice_columns)
            raise ReportError(f"--baseline {name}={value}: no run has a setting {name}; there are {valid}")
        values = dict.fromkeys(str(value_of(table, row, name)) for row in rows)
        if not any(str(one).lower() == value.lower() for one in values) and not _numeric(value, values):
            raise ReportError(f"--baseline {name}={value}: no run has it; {name} is one of {', '.join(values)}")


def _numeric(value: str, values: Mapping[str, None]) -> bool:
    try:
        return float(value) in {float(one) for one in values if one.replace(".", "", 1).lstrip("-").isdigit()}
    except ValueError:
        return value == "null" and "None" in values
