"""The metric against what a run costs: small markers are runs, large ones the mean of a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures.style import Trace, color, figure, marker, method_trace, rounded

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

COSTS = {
    "train_seconds": ("training time", "s"),
    "peak_memory_mb": ("peak memory", "MB"),
    "images_per_second": ("throughput", "images/s"),
}


def cost_figure(
    cost: str, metric: str, runs: Sequence[Sequence[tuple[float, float]]], styles: Mapping[str, int]
) -> Plot:
    """``runs[i]`` are (cost, metric) of the runs of the i-th method in ``styles`` (name -> style)."""
    what, unit = COSTS[cost]
    traces: list[Trace] = []
    for (name, style), of in zip(styles.items(), runs, strict=True):
        kept = [point for point in of if all(map(math.isfinite, point))]
        if kept:
            hover = f"%{{x:.4g}} {unit}, {metric} %{{y:.4f}}<extra>%{{fullData.name}}</extra>"
            x, y = np.mean(kept, 0).tolist()
            symbol = {"color": color(style), "symbol": marker(style)}
            traces += [
                method_trace(name, type="scatter", mode="markers", x=rounded(x for x, _ in kept), showlegend=False,
                             y=rounded(y for _, y in kept), hovertemplate=hover,
                             marker={**symbol, "size": 7, "opacity": 0.45}),
                method_trace(name, type="scatter", mode="markers", x=rounded([x]), y=rounded([y]),
                             hovertemplate=f"mean: {hover}", marker={**symbol, "size": 13}),
            ]  # fmt: skip
    return figure(traces, f"{metric} against {what}", f"{what} ({unit})", hovermode="closest")
