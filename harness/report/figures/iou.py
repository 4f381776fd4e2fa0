"""The IoU of available and sampled candidates with their objects, in total and over the training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.report.figures.steps import Population, step_trace, truth_trace
from harness.report.figures.style import BANDS, Trace, figure, line, method_trace, rounded
from harness.report.sampling import Counts

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

UPPER_ENDS = (0.05, 0.1, 0.2, 0.3, 0.5)  # of the bands of IoU; the last band is open
BAND_NAMES = ("below 0.05", "0.05 to 0.1", "0.1 to 0.2", "0.2 to 0.3", "0.3 to 0.5", "0.5 and more")
_MOST_WINDOWS = 60
_TRUTH_AT = 1.06  # right of the histogram
_PERCENT = {"tickformat": ".0%", "rangemode": "tozero"}


def negative_figure(title: str, stage: str, lines: Sequence[Population]) -> Plot:
    """Negatives by their IoU with the nearest object, as shares of all negatives of their population."""
    counts = [one.found.total(stage, one.name, "negative") for one in lines]
    traces, last = [], 0.3
    for one, of in zip(lines, counts, strict=True):
        edges = _edges(one)
        filled = np.flatnonzero(of)
        last = max(last, edges[filled[-1] + 1] if len(filled) else 0.3)
        traces.append(step_trace(one, edges, _shares(of), _bins(edges)))
    return figure(traces, title, "IoU with the nearest object", "share of negatives", hovermode="closest",
                  x_axis={"range": [0, last]}, y_axis=_PERCENT)  # fmt: skip


def positive_figure(title: str, stage: str, lines: Sequence[Population]) -> Plot:
    """Positives by their IoU with their object; ground-truth boxes that joined the proposals as a marker at the end."""
    traces: list[Trace] = []
    joined = False
    for one in lines:
        counts, truth = (one.found.total(stage, one.name, kind) for kind in ("positive", "truth"))
        whole = max(int(counts.sum() + truth.sum()), 1)
        edges = _edges(one)
        traces.append(step_trace(one, edges, counts / whole, _bins(edges)))
        if truth.sum():
            joined = True
            traces.append(truth_trace(one, float(truth.sum() / whole), _TRUTH_AT))
    places = [0, 0.2, 0.4, 0.6, 0.8, 1]
    names = [f"{place:g}" for place in places]
    if joined:
        places, names = [*places[:-1], _TRUTH_AT], [*names[:-1], "truth"]
    return figure(traces, title, "IoU with its object", "share of positives", hovermode="closest", y_axis=_PERCENT,
                  x_axis={"range": [0, 1.12 if joined else 1], "tickvals": places, "ticktext": names})  # fmt: skip


def easy_share_figure(title: str, stage: str, lines: Sequence[Population]) -> Plot:
    """The share of negatives below IoU 0.05 over the iterations."""
    traces = []
    for one in lines:
        at, counts = _thinned(one.found.iterations, one.found.windows[stage, one.name, "negative"])
        total = counts.sum(1)
        share = np.where(total > 0, counts[:, one.found.easy_bins].sum(1) / np.maximum(total, 1), np.nan)
        dash = {"line": {"dash": "dot", "width": 1.6}} if one.name == "available" else {}
        traces.append(
            line(one.style, one.label, at.tolist(), share.tolist(), hovertemplate="%{y:.1%}", **dash, **one.naming)
        )
    return figure(traces, title, "iteration", "share of negatives", y_axis={"tickformat": ".0%"}, hovermode="x unified")


def bands_figure(title: str, stage: str, one: Population) -> Plot:
    """The mixture of a method's sampled negatives by bands of IoU over the iterations; the bands add up to 1."""
    at, counts = _thinned(one.found.iterations, one.found.windows[stage, one.name, "negative"])
    uppers = np.append(one.found.edges, np.inf)
    bounds = np.searchsorted(uppers, [*(upper + 1e-6 for upper in UPPER_ENDS), np.inf], side="right")
    running = np.concatenate([np.zeros((len(counts), 1), np.int64), counts.cumsum(1)], axis=1)
    sums = running[:, np.minimum(bounds, counts.shape[1])] / np.maximum(counts.sum(1, keepdims=True), 1)
    shares = np.diff(sums, axis=1, prepend=0.0)
    traces = [
        method_trace(
            f"IoU {name}", type="scatter", mode="lines", x=at.tolist(), y=rounded(shares[:, k].tolist(), 4),
            stackgroup="one", line={"width": 0.5, "color": BANDS[k]}, fillcolor=BANDS[k], hovertemplate="%{y:.1%}",
        )
        for k, name in enumerate(BAND_NAMES)
    ]  # fmt: skip
    return figure(traces, title, "iteration", "share of sampled negatives", hovermode="x unified",
                  y_axis={"range": [0, 1], "tickformat": ".0%"})  # fmt: skip


def _thinned(iterations: Counts, windows: Counts) -> tuple[Counts, Counts]:
    """Neighboring windows added up, so that a long training makes no long drawing."""
    size = -(-len(iterations) // _MOST_WINDOWS)
    starts = np.arange(0, len(iterations), size)
    ends = np.minimum(starts + size, len(iterations)) - 1
    return iterations[ends], np.add.reduceat(windows, starts, axis=0)


def _edges(one: Population) -> list[float]:
    return [0.0, *(float(edge) for edge in one.found.edges), 1.0]


def _bins(edges: Sequence[float]) -> list[str]:
    return [f"IoU {low:.2f} to {high:.2f}" for low, high in pairwise(edges)]


def _shares(counts: Counts) -> NDArray[np.float64]:
    return np.asarray(counts / max(int(counts.sum()), 1))
