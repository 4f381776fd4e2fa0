"""The metric against what a run costs: small markers are runs, large ones the mean of a method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures.style import MARKERS, NUM_METHODS, Trace, color, figure, method_trace, rounded

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

COSTS = {
    "train_seconds": ("training time", "s"),
    "peak_memory_mb": ("peak memory", "MB"),
    "images_per_second": ("throughput", "images/s"),
}


def cost_figure(cost: str, metric: str, runs: Sequence[Sequence[tuple[float, float]]], labels: Sequence[str]) -> Plot:
    """``runs[i]`` are (cost, metric) of method i's runs."""
    name, unit = COSTS[cost]
    traces: list[Trace] = []
    for i, of in enumerate(runs):
        kept = [point for point in of if all(map(math.isfinite, point))]
        if kept:
            hover = f"%{{x:.4g}} {unit}, {metric} %{{y:.4f}}<extra>%{{fullData.name}}</extra>"
            x, y = np.mean(kept, 0).tolist()
            marker = {"color": color(i), "symbol": MARKERS[i % NUM_METHODS]}
            traces += [
                method_trace(labels[i], type="scatter", mode="markers", x=rounded(x for x, _ in kept), showlegend=False,
                             y=rounded(y for _, y in kept), hovertemplate=hover,
                             marker={**marker, "size": 7, "opacity": 0.45}),
                method_trace(labels[i], type="scatter", mode="markers", x=rounded([x]), y=rounded([y]),
                             hovertemplate=f"mean: {hover}", marker={**marker, "size": 13}),
            ]  # fmt: skip
    return figure(traces, f"{metric} against {name}", f"{name} ({unit})", hovermode="closest")
