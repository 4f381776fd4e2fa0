"""What stands below a context's table: figures, pictures and the tables behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from harness.evaluation.tide import ERROR_NAMES
from harness.report.across import Across
from harness.report.comparison import Row, Section
from harness.report.evidence import Evidence
from harness.report.figures.costs import COSTS, cost_figure
from harness.report.figures.curves import curve_figure
from harness.report.figures.differences import MOST_ROWS, Effect, forest
from harness.report.figures.errors import class_figure, confusion_figure, tide_figure
from harness.report.figures.precision import precision_figure, reliability_figure
from harness.report.figures.style import color
from harness.report.frame import RunTable
from harness.report.parts import Figure, Fold, Heading, Part, Text
from harness.report.sampling_details import sampling_details
from harness.report.tables import class_table, sampling_table, settings_table
from harness.report.variance_details import variance_details
from harness.report.words import interval_text, listed, shares_text, signed

MOST_CLASSES = 24  # drawn; the table has all
_LOSS_NOTE = (
    "A line is the mean over seeds, its band their range. Losses are means over what each method sampled, or weighted "
    "by it: compare their course between methods, not their height."
)
_TIDE_NOTE = (
    "Each error type, and the AP at IoU 0.5 that would be gained if it alone were repaired (TIDE, Bolya et al. 2020). "
    "Whiskers: ± sd over seeds. A class of which nothing is found near any object keeps an AP of 0 and adds nothing to "
    "`missed`."
)


def differences(section: Section, evidence: Evidence, number: int) -> list[Part]:
    """The forest plot of the differences from the baseline; empty where nothing is compared."""
    compared = section.compared
    if not compared:
        return []
    against = section.baselines[0] if len(section.baselines) == 1 else "the baseline"
    effects = [
        Effect(
            label=row.label,
            said=_effect_text(row, section),
            mean=one.mean_difference,
            interval=one.interval if one.n > 1 else None,
            dots=[(v, f"seed {seed}: {signed(v)}") for seed, v in zip(one.seeds, one.differences, strict=True)],
            method=section.rows.index(row),
        )
        for row, one in compared[:MOST_ROWS]
    ]
    name = section.metric.name
    draw = partial(
        forest, effects, f"Difference in {name}", f"{name} minus that of {against}", margin=section.rules.margin
    )
    margin = f" Gray band: differences within ±{section.rules.margin:g}." if section.rules.margin else ""
    caption = f"Diamond: mean. Bar: interval. Rings: paired seeds.{margin}"
    return [Figure(f"{number}/differences", f"Difference in {name}", draw, caption, _toggles(evidence.rows), wide=True)]


def _effect_text(row: Row, section: Section) -> str:
    one = row.comparison
    assert one is not None
    verdict = "nothing learned" if section.nothing_learned else one.verdict_text
    interval = f" {interval_text(one.interval)}" if math.isfinite(one.interval[1]) else ""
    versus = f", versus {one.baseline}" if len(section.baselines) > 1 else ""
    return f"{verdict}: {signed(one.mean_difference)}{interval}{versus}"


def across_figure(found: Across, number: int) -> Figure:
    """The probability of improvement of each method, one ring per data set."""
    effects = [
        Effect(
            label=row.label,
            said=f"{row.probability:.2f} {shares_text(row.probability_interval)}, versus {row.baseline}",
            mean=row.probability,
            interval=row.probability_interval,
            dots=[(p, f"{title}: {p:.2f}") for p, title in zip(row.probabilities, found.contexts, strict=True)],
            method=i + 1,
        )
        for i, row in enumerate(found.rows)
    ]
    axis = "probability that a run beats one of the baseline"
    draw = partial(forest, effects, "Probability of improvement", axis, zero=0.5, limits=(0.0, 1.0), signed=False)
    return Figure(f"across-{number}", "Probability of improvement", draw, "Rings: the data sets.", wide=True)


def details(table: RunTable, section: Section, evidence: Evidence, number: int) -> list[Part]:
    """Everything below the answer, by topic."""
    rows, toggles = evidence.rows, _toggles(evidence.rows)
    labels = [row.label for row in rows]
    parts = [
        *(variance_details(evidence.variance) if evidence.variance is not None else ()),
        *_topic("Errors", [_tide(table, rows, toggles, number)], _TIDE_NOTE),
        *_look(evidence, number),
        *_topic(
            "Precision and calibration", _precision(evidence, labels, toggles, number), "Means over classes and seeds."
        ),
        *_classes(table, section, rows, toggles, number),
        *sampling_details(evidence, toggles, number, sampling_table(table, section.rows)),
        *_topic("Learning curves", _curves(evidence, labels, toggles, number), _LOSS_NOTE),
        *_topic("Cost", _costs(table, section, rows, toggles, number), "Small markers: runs. Large ones: their mean."),
    ]
    settings = settings_table(section)
    return [*parts, Fold("Settings in which the methods differ", [settings])] if settings is not None else parts


def _toggles(rows: Sequence[Row]) -> dict[str, str]:
    return {row.label: color(i) for i, row in enumerate(rows)}


def _topic(title: str, content: Sequence[Part | None], note: str) -> list[Part]:
    found = [part for part in content if part is not None]
    return [Heading(title, 3), Text([note], "caption"), *found] if found else []


def _curves(evidence: Evidence, labels: Sequence[str], toggles: Mapping[str, str], number: int) -> list[Part]:
    names = list(dict.fromkeys(name for of in evidence.curves for name in of))
    names.sort(key=lambda name: not name.startswith("eval/"))  # accuracy first, then losses in their order
    return [
        Figure(
            f"{number}/curves/{name}",
            name,
            partial(curve_figure, name, [of.get(name) for of in evidence.curves], labels),
            methods=toggles,
        )
        for name in names
    ]


def _costs(
    table: RunTable, section: Section, rows: Sequence[Row], toggles: Mapping[str, str], number: int
) -> list[Part]:
    frame, metric = table.frame, section.metric
    out: list[Part] = []
    for cost, (name, _) in COSTS.items():
        if cost not in frame:
            continue
        runs = [
            [(float(frame[cost][run]), float(frame[metric.column][run])) for run in row.method.done] for row in rows
        ]
        if any(all(map(math.isfinite, point)) for of in runs for point in of):
            title = f"{metric.name} against {name}"
            draw = partial(cost_figure, cost, metric.name, runs, list(toggles))
            out.append(Figure(f"{number}/costs/{cost}", title, draw, methods=toggles))
    return out


def _tide(table: RunTable, rows: Sequence[Row], toggles: Mapping[str, str], number: int) -> Figure | None:
    columns = [name for name in map(str, table.frame.columns) if name.startswith("tide.")]
    gains = []
    for row in rows:
        values = table.frame[columns].iloc[row.method.done]
        gains.append({c.removeprefix("tide."): (float(values[c].mean()), float(values[c].std())) for c in columns})
    if not any(math.isfinite(mean) for of in gains for mean, _ in of.values()):
        return None
    draw = partial(tide_figure, gains, ERROR_NAMES, list(toggles))
    return Figure(f"{number}/errors", "Errors by type", draw, methods=toggles, wide=True)


def _look(evidence: Evidence, number: int) -> list[Part]:
    look = evidence.look
    if look is None:
        return []
    parts: list[Part] = []
    if look.pair is not None:
        pair = look.pair
        scores = listed([f"{one.score:.2f} for {one.label}" for one in pair.runs])
        told = (
            f"Matrices: detections of seed {pair.seed} from the score on at which F1 is highest ({scores}), matched at "
            "IoU 0.5. Colors are shares of a row."
        )
        parts.append(Text([told], "caption"))
        parts += [
            Figure(
                f"{number}/confusion/{one.label}",
                f"Confusion matrix: {one.label}",
                partial(confusion_figure, f"Confusion matrix: {one.label}", one.found.matrix(), pair.classes),
            )
            for one in pair.runs
        ]
        parts += [replace(gallery, key=f"{number}/{gallery.key}") for gallery in look.galleries]
    if look.notes:
        parts.append(Text(look.notes))
    return [Heading("What is confused, and where methods differ", 3), *parts] if parts else []


def _precision(evidence: Evidence, labels: Sequence[str], toggles: Mapping[str, str], number: int) -> list[Part]:
    found = evidence.precision
    out: list[Part] = [
        Figure(
            f"{number}/precision/{iou:g}",
            f"Precision and recall at IoU {iou:g}",
            partial(precision_figure, iou, found.recall, curves, labels),
            methods=toggles,
        )
        for iou, curves in found.curves.items()
    ]
    if any(found.bins):
        draw = partial(reliability_figure, found.bins, labels)
        out.append(Figure(f"{number}/calibration", "Calibration", draw, methods=toggles))
    return out


def _classes(
    table: RunTable, section: Section, rows: Sequence[Row], toggles: Mapping[str, str], number: int
) -> list[Part]:
    numbers = class_table(table, section.rows)
    if numbers is None:
        return []
    names = [str(column) for column in table.frame.columns if str(column).startswith("ap.")]
    values = np.array([[float(table.frame[name].iloc[row.method.done].mean()) for name in names] for row in rows])
    known = np.flatnonzero(np.isfinite(values).any(0))
    parts: list[Part] = [Heading("Classes", 3), Text(["Means over seeds."], "caption")]
    if len(known) <= MOST_CLASSES:
        classes = [names[k].removeprefix("ap.") for k in known]
        draw = partial(class_figure, classes, values[:, known].tolist(), list(toggles))
        parts.append(Figure(f"{number}/classes", "AP by class", draw, methods=toggles, wide=True))
    parts.append(Fold("AP by class, in numbers", [numbers]))
    for branch, what in (("segm", "Mask"), ("keypoints", "Keypoint")):
        if (own := class_table(table, section.rows, f"{branch}.ap.")) is not None:
            parts.append(Fold(f"{what} AP by class, in numbers", [own]))
    return parts
