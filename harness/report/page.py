"""The page: one HTML file with everything in it, that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from harness.report.across import Across
from harness.report.build import Judged, Report
from harness.report.decomposition import Decomposition
from harness.report.drawings import CANDIDATES, Drawings, drawings_of
from harness.report.markup import html_table
from harness.report.plots.effect import improvement_plot
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

_TAKEN_APART = 3
_LOSS_NOTE = (
    "A line is the mean over seeds, its band their range. Losses are means over what each method sampled, or weigh "
    "it: compare their course, not their height, between methods."
)
_IOU_NOTE = (
    "Bars: what the sampler took. Line: what it could have taken. Each adds up to 1. Negatives below IoU 0.05 hardly "
    "touch an object; Libra R-CNN calls them easy."
)
_CANDIDATES_NOTE = (
    "One line per method: what it sampled; dotted: what the first one could have taken. Ground-truth boxes that joined "
    "the proposals are left out, but for the positives of an object."
)
_TIDE_NOTE = (
    "Each error type, and the AP (at IoU 0.5) that would be gained if it alone were repaired (TIDE). Whiskers: ± sd. "
    "A class of which nothing is found near any object stays at an AP of 0 in this: it adds nothing to `missed`."
)


def page(report: Report) -> str:
    """The whole document."""
    style, script = (
        files("harness.report").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    sections = [*map(_together, report.across), *(_section(report, one, i) for i, one in enumerate(report.judged))]
    contents = "".join(
        f'<li><a href="#s{i}">{escape(judged.section.context.title)}</a></li>' for i, judged in enumerate(report.judged)
    )
    toc = f"<nav><ul>{contents}</ul></nav>" if len(report.judged) > 1 else ""
    runs, out = len(report.table.frame), len(report.table.left_out)
    counted = f"{_counted(runs, 'run')}, {_counted(out, 'folder')} left out" if out else _counted(runs, "run")
    nothing = "" if sections else "<p>No run has a result yet.</p>"
    title = "Which training samples, and is the difference real?"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{style}</style>'
    )
    body = (
        f"<header><h1>{title}</h1><p>{counted}</p></header>{toc}"
        f"<main>{''.join(sections)}{nothing}{_ending(report)}</main><script>{script}</script>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _together(found: Across) -> str:
    said = "".join(f"<li>{escape(line)}</li>" for line in across_text(found))
    notes = "".join(_said(f"Note: {note}") for note in found.notes)
    return (
        f'<section><h2>{escape(found.title)}</h2><ul class="answer">{said}</ul>{html_table(across_table(found))}'
        f"{_said(ACROSS_NOTE)}{improvement_plot(found)}{_said('Dots: the data sets.')}{notes}</section>"
    )


def _section(report: Report, judged: Judged, index: int) -> str:
    section = judged.section
    drawn = drawings_of(report.table, section)
    said = "".join(f"<li>{escape(line)}</li>" for line in [*answer(section), *noise_text(judged)])
    warned = "".join(f'<p class="warning">{escape(line)}</p>' for line in judged.warnings)
    rests = method_text(judged, report.options) if section.baselines and len(section.rows) > 1 else ""
    notes = [*section.notes, *judged.noise.notes, *drawn.notes]
    parts = [
        f'<section id="s{index}"><h2>{escape(section.context.title)}</h2>',
        f'<p class="question">{escape(question(section))}</p><ul class="answer">{said}</ul>{warned}',
        html_table(main_table(section)),
        f'<p class="note">{escape(rests)}</p>' if rests else "",
        _part("Differences", drawn.effect, "Diamond: mean. Bar: 95 % interval. Dots: the paired seeds."),
        *map(_decomposition, judged.decomposition[:_TAKEN_APART]),
        _more_decompositions(judged.decomposition[_TAKEN_APART:]),
        _plots(report, judged, drawn),
        _folded("Settings in which the methods differ", settings_table(section)),
        "".join(f'<p class="note">Note: {escape(note)}</p>' for note in notes),
        "</section>",
    ]
    return "".join(parts)


def _plots(report: Report, judged: Judged, drawn: Drawings) -> str:
    section = judged.section
    key = drawn.legend if len(drawn.drawn) > 1 else ""
    classes = class_table(report.table, section.rows)
    sampled = sampling_table(report.table, section.rows)
    return "".join(
        [
            _part("Cost", _keyed(key, drawn.cost), "Small dots are runs, large ones their mean."),
            _part("Learning curves", _keyed(key, drawn.curves), _LOSS_NOTE),
            _part(
                "What was sampled",
                drawn.sampling
                and drawn.sampling
                + _opened(CANDIDATES, drawn.candidates and f"{_said(_CANDIDATES_NOTE)}{key}{drawn.candidates}")
                + _folded("In numbers", sampled),
                _IOU_NOTE,
            ),
            _part("Shadow samplers", drawn.shadows, "Recorded on the very same candidates; they did not train."),
            _part("Errors", _keyed(key, drawn.tide), _TIDE_NOTE),
            _part("Precision and calibration", _keyed(key, drawn.precision), "Means over classes and seeds."),
            _part(
                "Classes", (_keyed(key, drawn.classes)) + (html_table(classes) if classes else ""), "Mean over seeds."
            ),
        ]
    )


def _decomposition(found: Decomposition) -> str:
    said = "".join(f"<li>{escape(line)}</li>" for line in decomposition_text(found))
    return f"<h3>What of {escape(found.ohem)} is hardness, what is its share of positives?</h3><ul>{said}</ul>"


def _more_decompositions(found: Sequence[Decomposition]) -> str:
    inside = "".join(map(_decomposition, found))
    return f"<details><summary>{len(found)} more OHEM arms taken apart</summary>{inside}</details>" if found else ""


def _ending(report: Report) -> str:
    facts = [[Cell(name), Cell(value)] for name, value in facts_table(report.table)]
    lines = commands(report.table)
    out = [
        _listed("Failed or refused", stopped_table(report.table)),
        _listed("Left out", left_out_table(report.table)),
        _listed("Made with", Table(["fact", "value"], facts) if facts else None),
    ]
    if lines:
        told = escape("\n".join(lines))
        out.append(f"<details><summary>Command lines ({len(lines)})</summary><pre>{told}</pre></details>")
    return "".join(out)


def _part(title: str, content: str, note: str) -> str:
    return f"<h3>{escape(title)}</h3>{_said(note)}{content}" if content else ""


def _keyed(key: str, content: str) -> str:
    return key + content if content else ""


def _opened(title: str, inside: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inside}</details>" if inside else ""


def _said(note: str) -> str:
    return f'<p class="note">{escape(note)}</p>'


def _folded(title: str, table: Table | None) -> str:
    return _opened(title, html_table(table)) if table is not None else ""


def _listed(title: str, table: Table | None) -> str:
    return f"<section><h2>{escape(title)}</h2>{html_table(table)}</section>" if table is not None else ""


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
