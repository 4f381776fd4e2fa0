"""All plots of one section. Files that are only drawn from are read here, for the methods that are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from harness.report.comparison import COSTS, Row, Section
from harness.report.frame import RunTable
from harness.report.histories import curves_of
from harness.report.plots import charts, iou
from harness.report.plots.candidates import Line, candidate_panels
from harness.report.plots.effect import effect_plot
from harness.report.plots.panel import NUM_COLOURS, colour, legend, panels
from harness.report.sampling import Sampling, sampling_of
from harness.runs.records import read_json

_EVALUATED = ("map", "map50", "map75")
MOST_CLASSES = 24
CANDIDATES = "Loss, size and level of the candidates, and how many an image and an object has"
SEEDS_READ = 5  # runs of a method whose histograms and curves of precision are read: 1,000 runs must not take minutes


@dataclass(frozen=True)
class Drawings:
    """HTML fragments; empty where the runs recorded nothing to draw."""

    drawn: list[Row]
    legend: str
    effect: str
    cost: str
    curves: str
    sampling: str
    candidates: str
    shadows: str
    tide: str
    precision: str
    classes: str
    notes: list[str]


def drawings_of(table: RunTable, section: Section) -> Drawings:
    """Draws the baseline and the best methods, as many as there are colours."""
    rows = section.rows[:NUM_COLOURS]
    notes = []
    if len(section.rows) > len(rows):
        notes.append(
            f"Plots show {len(rows)} of {len(section.rows)} methods: the baselines and those with the best "
            f"{section.metric.name}; the differences show up to 40; the tables have all."
        )
    found, unread = _samplings(table, rows)
    notes += unread
    return Drawings(
        drawn=rows,
        legend=legend([(colour(i), row.label) for i, row in enumerate(rows)]),
        effect=effect_plot(section),
        cost=panels(charts.cost_panels(section, rows, _costs(table, section, rows))),
        curves=_curves(table, rows),
        sampling=_sampling(rows, found),
        candidates=_candidates(rows, found),
        shadows=_shadows(rows, found),
        tide=panels(charts.tide_panels([_tide(table, row) for row in rows], [row.label for row in rows])),
        precision=_precision(table, rows, notes),
        classes=_classes(table, rows),
        notes=notes,
    )


def _curves(table: RunTable, rows: Sequence[Row]) -> str:
    found = [
        curves_of([table.paths[run] for run in row.method.done], [_end(table, run) for run in row.method.done])
        for row in rows
    ]
    names = list(dict.fromkeys(name for of in found for name in of if name != "lr"))
    names.sort(key=lambda name: not name.startswith("eval/"))  # accuracy first, then losses in their order
    return panels(charts.curve_panel(name, [of.get(name) for of in found]) for name in names)


def _end(table: RunTable, run: int) -> dict[str, float]:
    reached = table.settings[run].get("run.iterations")
    if not isinstance(reached, int):
        return {}
    return {"iteration": reached} | {
        f"eval/{name}": float(table.frame[name][run]) for name in _EVALUATED if name in table.frame
    }


def _costs(table: RunTable, section: Section, rows: Sequence[Row]) -> dict[str, list[list[tuple[float, float]]]]:
    frame, metric = table.frame, section.metric.column
    return {
        cost: [[(float(frame[cost][run]), float(frame[metric][run])) for run in row.method.done] for row in rows]
        for cost in COSTS
        if cost in frame
    }


def _tide(table: RunTable, row: Row) -> dict[str, tuple[float, float]]:
    columns = [name for name in map(str, table.frame.columns) if name.startswith("tide.")]
    values = table.frame[columns].iloc[row.method.done]
    return {name.removeprefix("tide."): (float(values[name].mean()), float(values[name].std())) for name in columns}


def _samplings(table: RunTable, rows: Sequence[Row]) -> tuple[list[Sampling | None], list[str]]:
    found, notes = [], []
    for row in rows:
        runs = row.method.done[:SEEDS_READ]
        one, unread = sampling_of([table.paths[run] for run in runs])
        found.append(one)
        notes += unread
        if one is not None and len(row.method.done) > len(runs):
            notes.append(f"{row.label}: histograms are those of {len(runs)} of {len(row.method.done)} runs.")
    return found, notes


def _sampling(rows: Sequence[Row], found: Sequence[Sampling | None]) -> str:
    out = []
    for stage in _stages(found):
        here = [(i, one) for i, one in enumerate(found) if one is not None and stage in one.stages]
        names = {i: rows[i].label for i, _ in here}
        out.append(f"<h4>Stage {escape(stage)}: negatives</h4>")
        out.append(panels(iou.negative_panel(names[i], one, stage, "sampled", colour(i)) for i, one in here))
        out.append(f"<h4>Stage {escape(stage)}: positives</h4>")
        out.append(panels(iou.positive_panel(names[i], one, stage, "sampled", colour(i)) for i, one in here))
        if max(len(one.iterations) for _, one in here) > 1:
            out.append(f"<h4>Stage {escape(stage)}: negatives over time</h4>{_band_legend()}")
            moving = [iou.over_time_panel(names[i], one, stage, "sampled") for i, one in here]
            out.append(panels([iou.easy_over_time_panel(stage, found), *moving]))
    return "".join(out)


def _candidates(rows: Sequence[Row], found: Sequence[Sampling | None]) -> str:
    """Loss, size, level and numbers of what each method sampled, and of what the first one could have."""
    out = []
    for stage in _stages(found):
        here = [(i, one) for i, one in enumerate(found) if one is not None and stage in one.stages]
        first, baseline = here[0]
        offered = Line(baseline, "available", "outline dotted", f"available to {rows[first].label}")
        taken = [Line(one, "sampled", colour(i), rows[i].label) for i, one in here]
        drawn = panels(candidate_panels(stage, [offered, *taken]))
        out.append(f"<h4>Stage {escape(stage)}</h4>{drawn}" if drawn else "")
    return "".join(out)


def _stages(found: Sequence[Sampling | None]) -> list[str]:
    return list(dict.fromkeys(stage for one in found if one is not None for stage in one.stages))


def _shadows(rows: Sequence[Row], found: Sequence[Sampling | None]) -> str:
    """The real sampler beside its shadows, for each method whose runs recorded some."""
    out = []
    for i, one in enumerate(found):
        for stage in one.stages if one is not None else ():
            assert one is not None
            shadows = [name for name in one.populations(stage) if name not in ("available", "sampled")]
            if shadows:
                title = f"{rows[i].label}, stage {stage}: what trained, and what {len(shadows)} other sampler"
                out.append(f"<h4>{escape(title)}{'s' if len(shadows) > 1 else ''} would have taken</h4>")
                names = [("sampled", f"{rows[i].label} (trained)"), *((name, f"{name} (shadow)") for name in shadows)]
                labels = [row.label for row in rows]
                # A shadow has the colour of the method of its name, where that was trained, too.
                styles = [colour(labels.index(n) if n in labels else i + 1 + k) for k, n in enumerate(shadows)]
                for panel in (iou.negative_panel, iou.positive_panel):
                    drawn = (panel(t, one, stage, p, s) for (p, t), s in zip(names, [colour(i), *styles], strict=True))
                    out.append(panels(drawn))
                taken = [Line(one, p, s, t) for (p, t), s in zip(names, [colour(i), *styles], strict=True)]
                inside = panels(
                    candidate_panels(stage, [Line(one, "available", "outline dotted", "available"), *taken])
                )
                key = legend([(line.style, line.name) for line in taken])
                out.append(f"<details><summary>{CANDIDATES}</summary>{key}{inside}</details>" if inside else "")
                if len(one.iterations) > 1:
                    out.append(_band_legend() + panels(iou.over_time_panel(t, one, stage, p) for p, t in names))
    return "".join(out)


def _band_legend() -> str:
    items = "".join(
        '<li><svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">'
        f'<rect class="a{k}" width="26" height="12"/></svg>IoU {escape(name)}</li>'
        for k, name in enumerate(iou.BAND_NAMES)
    )
    return f'<ul class="legend">{items}</ul>'


def _precision(table: RunTable, rows: Sequence[Row], notes: list[str]) -> str:
    """Curves of precision at the IoUs recorded, and calibration: means over seeds."""
    recall: list[float] = []
    curves: dict[float, dict[int, list[list[float]]]] = {}
    bins: list[list[tuple[float, float]]] = []
    for i, row in enumerate(rows):
        reliability: dict[float, list[tuple[float, float, float]]] = {}
        for run in row.method.done[:SEEDS_READ]:
            try:
                at, precision, calibration = _evaluated(table.paths[run])
            except (OSError, ValueError, KeyError, TypeError):
                notes.append(f"{table.paths[run].name}: curves of precision in result.json cannot be read.")
                continue
            recall = at or recall
            for iou_thr, values in precision.items():
                curves.setdefault(iou_thr, {}).setdefault(i, []).append(values)
            for lower, told in calibration:
                reliability.setdefault(lower, []).append(told)
        bins.append([_weighted(reliability[lower]) for lower in sorted(reliability)])
    out = [
        charts.precision_panel(iou_thr, recall, [np.mean(of[i], 0) if i in of else None for i in range(len(rows))])
        for iou_thr, of in curves.items()
    ]
    if any(bins):
        out.append(charts.reliability_panel(bins))
    return panels(out)


def _evaluated(
    run: Path,
) -> tuple[list[float], dict[float, list[float]], list[tuple[float, tuple[float, float, float]]]]:
    """Recalls, precision by IoU (mean over classes), and per filled bin its lower end and (count, score, precision)."""
    metrics: dict[str, Any] = read_json(run / "result.json")["metrics"]
    drawn = metrics.get("pr_curves") or {"recall": [], "curves": []}
    recall = list(map(float, drawn["recall"]))
    means = [one for one in drawn["curves"] if one["category"] == "mean"]
    precision = {float(one["iou"]): list(map(float, one["precision"])) for one in means}
    if any(len(values) != len(recall) for values in precision.values()):
        raise ValueError("as many precisions as recalls are needed")
    bins = [one for one in (metrics.get("calibration") or {"bins": []})["bins"] if one["count"]]
    told = [(float(b["lower"]), (float(b["count"]), float(b["confidence"]), float(b["precision"]))) for b in bins]
    return recall, precision, told


def _weighted(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    counts = np.array([row[0] for row in rows])
    return (
        float(np.average([row[1] for row in rows], weights=counts)),
        float(np.average([row[2] for row in rows], weights=counts)),
    )


def _classes(table: RunTable, rows: Sequence[Row]) -> str:
    names = [str(column) for column in table.frame.columns if str(column).startswith("ap.")]
    values = [[float(table.frame[name].iloc[row.method.done].mean()) for name in names] for row in rows]
    known = [k for k in range(len(names)) if any(math.isfinite(of[k]) for of in values)]
    if not known or len(known) > MOST_CLASSES:
        return ""
    classes = [names[k].removeprefix("ap.") for k in known]
    return panels([charts.class_panel(classes, [[of[k] for k in known] for of in values], [row.label for row in rows])])
