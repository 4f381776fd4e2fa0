"""The report as text: what the terminal shows after a sweep and above the page's address."""

from __future__ import annotations

import math
import textwrap

from harness.report.across import Across
from harness.report.build import Judged, Options, Report
from harness.report.image_noise import LABEL
from harness.report.markup import text_table
from harness.report.tables import across_table, left_out_table, main_table, stopped_table
from harness.report.words import (
    ACROSS_NOTE,
    TESTS,
    across_text,
    answer,
    baselines_text,
    decomposition_text,
    question,
    signed,
)
from harness.statistics import fewest_pairs

_WIDE = ("p sign-flip", "images/s", "peak MB")  # a terminal has no room for them; the page has them
_TAKEN_APART = 2
_SHOWN = 20  # lines of failures and of folders left out; the page has all


def text_of(report: Report) -> str:
    """All sections, failures and what was left out."""
    blocks = [section_text(judged, report.options) for judged in report.judged]
    blocks += [_across_block(found) for found in report.across]
    if not report.judged:
        blocks.append("No run has a result yet.")
    for title, table in (
        ("Failed or refused", stopped_table(report.table)),
        ("Left out", left_out_table(report.table)),
    ):
        if table is not None:
            lines = text_table(table).splitlines()
            more = len(table.rows) - _SHOWN
            rest = [f"... and {more} more"] if more > 0 else []
            blocks.append("\n".join([f"{title} ({len(table.rows)})", *lines[: _SHOWN + 2], *rest]))
    return "\n\n".join(blocks)


def section_text(judged: Judged, options: Options) -> str:
    """One context: question, table, answer."""
    section = judged.section
    said = answer(section)
    for found in judged.decomposition[:_TAKEN_APART]:
        said += decomposition_text(found)
    said += noise_text(judged)
    more = len(judged.decomposition) - _TAKEN_APART
    said += [f"{more} more OHEM arms are taken apart on the page."] if more > 0 else []
    notes = [*section.notes, *judged.noise.notes, *judged.warnings]
    lines = [
        section.context.title,
        question(section),
        "",
        text_table(main_table(section).without(_WIDE)),
        "",
        *map(_wrapped, said),
    ]
    if section.baselines and len(section.rows) > 1:
        lines.append(_wrapped(method_text(judged, options)))
    return "\n".join([*lines, *(_wrapped(f"Note: {note}") for note in notes)])


def _across_block(found: Across) -> str:
    said = [*across_text(found), ACROSS_NOTE, *(f"Note: {note}" for note in found.notes)]
    return "\n".join([found.title, "", text_table(across_table(found)), "", *map(_wrapped, said)])


def method_text(judged: Judged, options: Options) -> str:
    """Which baseline and which test, and what the test assumes."""
    section = judged.section
    over = sum(row.comparison is not None and math.isfinite(row.comparison.p_holm) for row in section.rows)
    family = f"{over} comparison{'s' if over != 1 else ''}"
    chosen = "as asked" if options.baseline else "chosen because none was named"
    needed = fewest_pairs(max(over, 1), section.test)
    if not over:
        tested = f"none has the {needed} pairs that the {TESTS[section.test]} needs to show anything"
        return f"Baseline: {baselines_text(section)} ({chosen}). Differences are paired by seed; {tested}."
    assumes = {
        "anytime": "they may be looked at after every seed, and seeds may be added until they settle; it takes the "
        f"differences between paired seeds to be normally distributed and needs {needed} of them",
        "t": "valid for one look at a number of seeds that was fixed beforehand; it takes the differences between "
        f"paired seeds to be normally distributed and needs {needed} of them",
        "sign_flip": "valid for one look at a number of seeds that was fixed beforehand; it assumes nothing about the "
        f"noise, and needs {needed} paired seeds to show one of so many",
    }[section.test]
    return (
        f"Baseline: {baselines_text(section)} ({chosen}). Differences are paired by seed; verdicts at 0.05 by "
        f"the {TESTS[section.test]} with Holm's correction over {family}: {assumes}. "
        f"Intervals hold for all comparisons together with probability 0.95. "
        f"A difference below {section.margin:g} counts as the same."
    )


def noise_text(judged: Judged) -> list[str]:
    """What the bootstrap over images says of single pairs."""
    return [
        f"{name}, one seed: {signed(found.difference)} [{signed(found.interval[0])}, {signed(found.interval[1])}] by "
        f"{found.resamples} resamples of {found.num_images} test images. This is {LABEL}."
        for name, found in judged.noise.found.items()
    ]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)
