"""What stands below a context's table: figures, pictures and the tables behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from harness.evaluation.tide import ERROR_NAMES
from harness.report.class_details import class_details
from harness.report.comparison import Section
from harness.report.evidence import Evidence
from harness.report.figures.costs import COSTS, cost_figure
from harness.report.figures.curves import curve_figure
from harness.report.figures.errors import tide_figure
from harness.report.figures.precision import precision_figure, reliability_figure
from harness.report.frame import RunTable
from harness.report.look_details import look_details
from harness.report.parts import Figure, Fold, Heading, Part, Text
from harness.report.sampling_details import sampling_details
from harness.report.tables import sampling_table, settings_table
from harness.report.variance_details import variance_details

_LOSS_NOTE = (
    "A line is the mean over seeds, its band their range. Losses are means over what each method sampled, or weighted "
    "by it: compare their course between methods, not their height."
)
_TIDE_NOTE = (
    "Each error type, and the AP at IoU 0.5 that would be gained if it alone were repaired (TIDE, Bolya et al. 2020). "
    "Whiskers: ± sd over seeds. A class of which nothing is found near any object keeps an AP of 0 and adds nothing to "
    "missed."
)


def details(table: RunTable, section: Section, evidence: Evidence, number: int) -> list[Part]:
    """Everything below the answer, by topic."""
    parts = [
        *(variance_details(evidence.variance) if evidence.variance is not None else ()),
        *_topic("Errors", [_tide(table, evidence, number)], _TIDE_NOTE),
        *look_details(evidence, number),
        *_topic("Precision and calibration", _precision(evidence, number), "Means over classes and seeds."),
        *class_details(table, section, evidence, number),
        *sampling_details(evidence, number, sampling_table(table, section.rows)),
        *_topic("Learning curves", _curves(evidence, number), _LOSS_NOTE),
        *_topic("Cost", _costs(table, section, evidence, number), "Small markers: runs. Large ones: their mean."),
    ]
    settings = settings_table(section)
    return [*parts, Fold("Settings in which the methods differ", [settings])] if settings is not None else parts


def _topic(title: str, content: Sequence[Part | None], note: str) -> list[Part]:
    found = [part for part in content if part is not None]
    return [Heading(title, 3), Text([note], "caption"), *found] if found else []


def _curves(evidence: Evidence, number: int) -> list[Part]:
    names = list(dict.fromkeys(name for of in evidence.curves for name in of))
    names.sort(key=lambda name: not name.startswith("eval/"))  # accuracy first, then losses in their order
    return [
        Figure(
            f"{number}/curves/{name}",
            name,
            partial(curve_figure, name, [of.get(name) for of in evidence.curves], evidence.drawn),
            methods=evidence.toggles,
        )
        for name in names
    ]


def _costs(table: RunTable, section: Section, evidence: Evidence, number: int) -> list[Part]:
    frame, metric = table.frame, section.metric
    out: list[Part] = []
    for cost, (name, _) in COSTS.items():
        if cost not in frame:
            continue
        runs = [
            [(float(frame[cost][run]), float(frame[metric.column][run])) for run in row.method.done]
            for row in evidence.rows
        ]
        if any(all(map(math.isfinite, point)) for of in runs for point in of):
            title = f"{metric.name} against {name}"
            draw = partial(cost_figure, cost, metric.name, runs, evidence.drawn)
            out.append(Figure(f"{number}/costs/{cost}", title, draw, methods=evidence.toggles))
    return out


def _tide(table: RunTable, evidence: Evidence, number: int) -> Figure | None:
    columns = [name for name in map(str, table.frame.columns) if name.startswith("tide.")]
    gains = []
    for row in evidence.rows:
        values = table.frame[columns].iloc[row.method.done]
        gains.append({c.removeprefix("tide."): (float(values[c].mean()), float(values[c].std())) for c in columns})
    if not any(math.isfinite(mean) for of in gains for mean, _ in of.values()):
        return None
    draw = partial(tide_figure, gains, ERROR_NAMES, evidence.drawn)
    return Figure(f"{number}/errors", "Errors by type", draw, methods=evidence.toggles, wide=True)


def _precision(evidence: Evidence, number: int) -> list[Part]:
    found = evidence.precision
    out: list[Part] = [
        Figure(
            f"{number}/precision/{iou:g}",
            f"Precision and recall at IoU {iou:g}",
            partial(precision_figure, iou, found.recall, curves, evidence.drawn),
            methods=evidence.toggles,
        )
        for iou, curves in found.curves.items()
    ]
    if any(found.bins):
        draw = partial(reliability_figure, found.bins, evidence.drawn)
        out.append(Figure(f"{number}/calibration", "Calibration", draw, methods=evidence.toggles))
    return out
