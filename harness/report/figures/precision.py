"""Precision over recall, and how well scores are calibrated: means over classes and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.report.figures.style import MARKERS, MUTED, NUM_METHODS, color, figure, line

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

_WHOLE = {"range": [0, 1.02]}


def precision_figure(
    iou: float, recall: Sequence[float], precision: Sequence[NDArray[np.float64] | None], labels: Sequence[str]
) -> Plot:
    """Precision over recall at one IoU; ``precision[i]`` is method i's, at the given recalls."""
    traces = [
        line(i, labels[i], recall, row.tolist(), hovertemplate="%{y:.3f}")
        for i, row in enumerate(precision)
        if row is not None
    ]
    return figure(traces, f"Precision and recall at IoU {iou:g}", "recall", "precision",
                  x_axis=_WHOLE, y_axis=_WHOLE, hovermode="x unified")  # fmt: skip


def reliability_figure(bins: Sequence[Sequence[tuple[float, float]]], labels: Sequence[str]) -> Plot:
    """Share of right detections over the mean score, by bins of the score; the diagonal is a perfect calibration."""
    diagonal = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "perfect", "showlegend": False,
                "line": {"color": MUTED, "dash": "dot", "width": 1}, "hoverinfo": "skip"}  # fmt: skip
    traces = [
        line(
            i, labels[i], [x for x, _ in points], [y for _, y in points], mode="lines+markers",
            marker={"symbol": MARKERS[i % NUM_METHODS], "size": 6, "color": color(i)},
            hovertemplate="score %{x:.2f}, right %{y:.2f}<extra>%{fullData.name}</extra>",
        )
        for i, points in enumerate(bins)
        if points
    ]  # fmt: skip
    return figure([diagonal, *traces], "Calibration", "mean score", "share of detections that are right",
                  x_axis=_WHOLE, y_axis=_WHOLE, hovermode="closest")  # fmt: skip
