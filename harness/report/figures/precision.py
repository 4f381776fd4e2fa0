"""Precision over recall, and how well scores are calibrated: means over classes and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.report.figures.style import MUTED, color, figure, line, marker

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

_WHOLE = {"range": [0, 1.02]}


def precision_figure(
    iou: float, recall: Sequence[float], precision: Sequence[NDArray[np.float64] | None], styles: Mapping[str, int]
) -> Plot:
    """Precision over recall at one IoU; ``precision[i]`` is that of the i-th method in ``styles``."""
    traces = [
        line(style, name, recall, row.tolist(), hovertemplate="%{y:.3f}")
        for (name, style), row in zip(styles.items(), precision, strict=True)
        if row is not None
    ]
    return figure(traces, f"Precision and recall at IoU {iou:g}", "recall", "precision",
                  x_axis=_WHOLE, y_axis=_WHOLE, hovermode="x unified")  # fmt: skip


def reliability_figure(bins: Sequence[Sequence[tuple[float, float]]], styles: Mapping[str, int]) -> Plot:
    """Share of right detections over the mean score, by bins of the score; the diagonal is a perfect calibration."""
    diagonal = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "perfect", "showlegend": False,
                "line": {"color": MUTED, "dash": "dot", "width": 1}, "hoverinfo": "skip"}  # fmt: skip
    traces = [
        line(
            style, name, [x for x, _ in points], [y for _, y in points], mode="lines+markers",
            marker={"symbol": marker(style), "size": 6, "color": color(style)},
            hovertemplate="score %{x:.2f}, right %{y:.2f}<extra>%{fullData.name}</extra>",
        )
        for (name, style), points in zip(styles.items(), bins, strict=True)
        if points
    ]  # fmt: skip
    return figure([diagonal, *traces], "Calibration", "mean score", "share of detections that are right",
                  x_axis=_WHOLE, y_axis=_WHOLE, hovermode="closest")  # fmt: skip
