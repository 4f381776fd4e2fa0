"""Where accuracy is lost: TIDE's error types, AP by class, the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.report.figures.style import MUTED, color, figure, marker, method_trace, pattern, rounded, wrapped

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

Spread = tuple[float, float]  # mean and standard deviation over seeds
_UNKNOWN: Spread = (math.nan, math.nan)
_NUMBERED = 12  # classes up to which the cells of a confusion matrix carry numbers


def tide_figure(gains: Sequence[Mapping[str, Spread]], kinds: Mapping[str, str], styles: Mapping[str, int]) -> Plot:
    """Bars by error type and method: the AP that repairing the type alone would gain, ± sd over seeds.

    ``gains[i]`` are those of the i-th method in ``styles``; ``kinds`` maps their keys to names."""
    traces = []
    for (name, style), of in zip(styles.items(), gains, strict=True):
        values = [of.get(kind, _UNKNOWN) for kind in kinds]
        spread = [0.0 if math.isnan(sd) else sd for _, sd in values]
        bars = {"type": "data", "array": rounded(spread), "thickness": 1, "width": 3, "color": MUTED}
        traces.append(
            method_trace(
                name, type="bar", x=list(kinds.values()), y=rounded(mean for mean, _ in values), error_y=bars,
                marker={"color": color(style), "pattern": {"shape": pattern(style)}},
                hovertemplate="%{x}: %{y:.4f}<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    return figure(traces, "Errors by type", "", "AP gained if repaired", barmode="group", bargap=0.25)


def class_figure(classes: Sequence[str], values: Sequence[Sequence[float]], styles: Mapping[str, int]) -> Plot:
    """AP of each class, one marker per method. ``values[method][class]``, methods as in ``styles``."""
    places = list(range(len(classes)))
    traces = [
        method_trace(
            name, type="scatter", mode="markers", x=rounded(of), y=places,
            marker={"color": color(style), "symbol": marker(style), "size": 10, "opacity": 0.9},
            customdata=list(classes), hovertemplate="%{customdata}: %{x:.4f}<extra>%{fullData.name}</extra>",
        )
        for (name, style), of in zip(styles.items(), values, strict=True)
    ]  # fmt: skip
    names = [wrapped(name if len(name) < 18 else f"{name[:16]}…", 20) for name in classes]
    axis = {"tickvals": places, "ticktext": names, "autorange": "reversed"}
    return figure(traces, "AP by class", "AP", height=110 + 24 * len(classes), y_axis=axis, hovermode="closest",
                  x_axis={"rangemode": "tozero"})  # fmt: skip


def confusion_figure(title: str, counts: NDArray[np.int64], classes: Sequence[str]) -> Plot:
    """Rows are what an object is (last: no object), columns what it was detected as (last: missed).

    Colors are shares of a row, so that frequent and rare classes can be compared.
    """
    rows = [*classes, "no object"]
    columns = [*classes, "missed"]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    small = len(classes) <= _NUMBERED
    hover = "%{y} detected as %{x}: %{customdata} (%{z:.1%} of the row)<extra></extra>"
    trace = {
        "type": "heatmap", "z": [rounded(row, 3) for row in shares.tolist()], "customdata": counts.tolist(),
        "x": list(range(len(columns))), "y": list(range(len(rows))), "zmin": 0, "zmax": 1, "showscale": not small,
        "colorscale": [[0, "rgba(37,132,232,0)"], [1, "rgba(37,132,232,0.9)"]], "xgap": 1, "ygap": 1,
        "hovertemplate": hover.replace("%{y}", "%{text[0]}").replace("%{x}", "%{text[1]}"),
        "text": [[[wrapped(row, 30), wrapped(column, 30)] for column in columns] for row in rows],
    }  # fmt: skip
    notes = [
        {"x": j, "y": i, "text": f"{count:,}", "showarrow": False}
        for i, row in enumerate(counts.tolist())
        for j, count in enumerate(row)
        if small and count
    ]
    short = [[name if len(name) < 14 else f"{name[:12]}…" for name in names] for names in (columns, rows)]
    every = max(1, len(rows) // 40)
    axes = [
        {"tickvals": list(range(0, len(n), every)), "ticktext": [wrapped(t, 20) for t in n[::every]]} for n in short
    ]
    return figure(
        [trace], title, "detected as", "object", height=140 + max(24, min(44, 900 // len(rows))) * len(rows),
        x_axis={**axes[0], "showgrid": False, "zeroline": False, "tickangle": -40}, annotations=notes,
        y_axis={**axes[1], "showgrid": False, "zeroline": False, "autorange": "reversed"},
    )  # fmt: skip
