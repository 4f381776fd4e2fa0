"""Learning curves, error types, cost and precision, one panel each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.report.comparison import Row, Section
from harness.report.histories import Curve
from harness.report.plots.panel import Panel, colour, shortened, spread
from harness.report.words import number

TIDE = ("classification", "localisation", "both", "duplicate", "background", "missed")
_COST = {
    "train_seconds": ("Training time", "s"),
    "peak_memory_mb": ("Peak memory", "MB"),
    "images_per_second": ("Throughput", "images/s"),
}


def curve_panel(name: str, curves: Sequence[Curve | None]) -> str:
    """One logged quantity over the iterations, one line per method, its range over seeds as a band."""
    known = [curve for curve in curves if curve is not None]
    values = np.concatenate([np.concatenate([curve.low, curve.high]) for curve in known])
    # A first step that diverges for a moment would flatten everything after it.
    top = np.nanquantile(values, 0.98) if np.isfinite(values).any() else 1.0
    limits = spread([*(float(v) for v in values if v <= top), 0.0] if name != "lr" else values.tolist(), zero=True)
    end = max(float(curve.iterations[-1]) for curve in known)
    panel = Panel(name, (0.0, end), limits, "iteration")
    for i, curve in enumerate(curves):
        if curve is not None:
            at = curve.iterations.tolist()
            if curve.runs > 1:
                panel.band(at, curve.low.tolist(), curve.high.tolist(), f"band {colour(i)}")
            panel.line(at, curve.mean.tolist(), colour(i))
            if len(at) == 1:
                panel.dot(at[0], float(curve.mean[0]), f"dot {colour(i)}")
    return panel.svg(f"{name} over the iterations")


def tide_panels(gains: Sequence[Mapping[str, tuple[float, float]]], names: Sequence[str]) -> list[str]:
    """One panel per error type, one bar per method: AP that repairing it would gain, mean and spread over seeds."""
    known = [mean + (0 if math.isnan(sd) else sd) for of in gains for mean, sd in of.values() if math.isfinite(mean)]
    if not known:
        return []
    out = []
    for kind in TIDE:
        rows = [of.get(kind, (math.nan, math.nan)) for of in gains]
        panel = Panel(kind, (0.0, max(*known, 1e-3) * 1.15), (-len(rows), 0.0), "AP gained if repaired", y_ticks=(),
                      height=70 + 20 * len(rows), left=14)  # fmt: skip
        for i, (mean, sd) in enumerate(rows):
            if math.isfinite(mean):
                panel.bar((0, mean), (-i - 0.15, -i - 0.85), f"bar {colour(i)}", f"{names[i]}: {number(mean)}")
                if math.isfinite(sd):
                    panel.line([max(mean - sd, 0), mean + sd], [-i - 0.5] * 2, "whisker")
                end = mean + (sd if math.isfinite(sd) else 0)
                panel.text(end, -i - 0.5, number(mean), "tick", dx=5, dy=4)
        out.append(panel.svg(f"AP gained if {kind} errors were repaired, by method"))
    return out


def cost_panels(
    section: Section, rows: Sequence[Row], values: Mapping[str, Sequence[Sequence[tuple[float, float]]]]
) -> list[str]:
    """The metric against each cost: small dots are runs, large ones methods. `values[cost][i]`: (cost, metric)."""
    out = []
    for cost, (name, unit) in _COST.items():
        runs = values.get(cost, ())
        points = [point for of in runs for point in of if all(map(math.isfinite, point))]
        if not points:
            continue
        panel = Panel(
            f"{section.metric.name} against {name.lower()}",
            spread([x for x, _ in points], 0.12),
            spread([y for _, y in points], 0.12),
            f"{name.lower()} ({unit})",
        )
        for i, of in enumerate(runs):
            kept = [point for point in of if all(map(math.isfinite, point))]
            for x, y in kept:
                panel.dot(x, y, f"faint {colour(i)}", radius=3)
            if kept:
                x, y = np.mean(kept, 0).tolist()
                panel.dot(x, y, f"dot {colour(i)}", f"{rows[i].label}: {number(x)} {unit}, {number(y)}", radius=6)
        out.append(panel.svg())
    return out


def precision_panel(iou: float, recall: Sequence[float], precision: Sequence[NDArray[np.float64] | None]) -> str:
    """Precision over recall at one IoU, mean over classes and seeds."""
    panel = Panel(f"Precision and recall at IoU {iou:g}", (0, 1), (0, 1), "recall", "precision")
    for i, row in enumerate(precision):
        if row is not None:
            panel.line(recall, row.tolist(), colour(i))
    return panel.svg()


def reliability_panel(bins: Sequence[Sequence[tuple[float, float]]]) -> str:
    """Share that is right over mean score, by bins of the score; the diagonal is a perfect calibration."""
    panel = Panel("Calibration", (0, 1), (0, 1), "mean score", "share of detections that are right")
    panel.line([0, 1], [0, 1], "reference")
    for i, points in enumerate(bins):
        panel.line([x for x, _ in points], [y for _, y in points], colour(i))
        for x, y in points:
            panel.dot(x, y, f"dot {colour(i)}", radius=2.5)
    return panel.svg()


def class_panel(classes: Sequence[str], values: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    """AP of each class, one dot per method. `values[method][class]`."""
    panel = Panel("AP by class", spread([v for of in values for v in of], 0.05, zero=True), (-len(classes), 0.0), "AP",
                  y_ticks=[(-k - 0.5, shortened(name, 14)) for k, name in enumerate(classes)],
                  height=74 + 22 * len(classes), left=100)  # fmt: skip
    for i, of in enumerate(values):
        for k, value in enumerate(of):
            panel.dot(value, -k - 0.5, f"dot {colour(i)}", f"{names[i]}, {classes[k]}: {number(value)}", radius=4.5)
    return panel.svg()
