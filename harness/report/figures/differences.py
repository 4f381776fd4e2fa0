"""Forest plots: the difference of each method from its baseline, with its interval and the paired seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.figures.style import MUTED, PAPER, TEXT, Trace, color, figure, method_trace, rounded, wrapped

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

Interval = tuple[float, float]
MOST_ROWS = 40
_LINE, _ROW = 17, 30  # pixels: a line of a label, a row without its label
_WIDTH = 52  # characters of a label's line: what a phone shows


@dataclass(frozen=True)
class Effect:
    """One row of a forest plot."""

    label: str
    said: str  # verdict and numbers, shown under the label
    mean: float
    interval: Interval | None
    dots: Sequence[tuple[float, str]]  # one per paired seed or data set: value and what it is
    style: int  # of the method


def forest(
    effects: Sequence[Effect],
    title: str,
    axis: str,
    zero: float = 0.0,
    margin: float | None = None,
    limits: Interval | None = None,
    signed: bool = True,
) -> Plot:
    """Mean (diamond), interval (bar) and single values (rings) of each row over one axis.

    Args:
        effects: the rows, the first on top.
        title: of the figure.
        axis: what the numbers are.
        zero: where nothing differs.
        margin: differences this small are the same for practical purposes; shown as a band around ``zero``.
        limits: of the axis; None: all values, and intervals as far as three times their range.
        signed: write plus signs on the axis.
    """
    shown = effects[:MOST_ROWS]
    tops, height = _places(shown)
    traces = [trace for effect, y in zip(shown, tops, strict=True) for trace in _traces(effect, y)]
    low, high = limits or _limits(shown, zero, margin)
    shapes = [{"type": "line", "x0": zero, "x1": zero, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
               "line": {"color": MUTED, "width": 1.5}}]  # fmt: skip
    if margin:
        shapes.append({"type": "rect", "x0": zero - margin, "x1": zero + margin, "yref": "paper", "y0": 0, "y1": 1,
                       "layer": "below", "line": {"width": 0}, "fillcolor": "rgba(128,136,146,0.16)"})  # fmt: skip
    notes = [
        {"x": 0, "xref": "paper", "xanchor": "left", "y": y, "yanchor": "bottom", "yshift": 6, "showarrow": False,
         "align": "left", "font": {"size": 12.5, "color": TEXT}, "text": _label(effect)}
        for effect, y in zip(shown, tops, strict=True)
    ]  # fmt: skip
    return figure(
        traces,
        title,
        axis,
        height=height + 90,
        x_axis={
            "range": [low, high],
            "tickformat": "+.3~g" if signed else ".2~g",
            "zeroline": False,
            "showgrid": False,
        },
        y_axis={"range": [-height, 0], "visible": False, "fixedrange": True},
        shapes=shapes,
        annotations=notes,
        hovermode="closest",
    )


def _label(effect: Effect) -> str:
    """Name and numbers above the bar, in one line where they fit."""
    between = "  " if len(effect.label) + len(effect.said) < _WIDTH else "<br>"
    return f"<b>{wrapped(effect.label, _WIDTH - 6)}</b>{between}{wrapped(effect.said, _WIDTH)}"


def _places(effects: Sequence[Effect]) -> tuple[list[float], float]:
    """The height of each row's bar below the top, in pixels, negative; and the height of all rows."""
    places, used = [], 0.0
    for effect in effects:
        used += _LINE * (_label(effect).count("<br>") + 1) + _ROW
        places.append(-(used - _ROW / 2))
    return places, used


def _traces(effect: Effect, y: float) -> list[Trace]:
    shade = color(effect.style)
    out = []
    if effect.interval is not None and all(map(math.isfinite, effect.interval)):
        low, high = effect.interval
        out.append(
            method_trace(
                effect.label, type="scatter", mode="lines", x=rounded([low, high]), y=[y, y],
                line={"color": shade, "width": 4}, hovertemplate="interval: %{x:+.4f}<extra></extra>",
            )
        )  # fmt: skip
    out.append(
        method_trace(
            effect.label, type="scatter", mode="markers", x=rounded([value for value, _ in effect.dots]),
            y=[y] * len(effect.dots), text=[wrapped(told, 60) for _, told in effect.dots], showlegend=False,
            hovertemplate="%{text}<extra></extra>",
            marker={"size": 8, "color": PAPER, "line": {"color": TEXT, "width": 1.3}},
        )
    )  # fmt: skip
    out.append(
        method_trace(
            effect.label, type="scatter", mode="markers", x=rounded([effect.mean]), y=[y],
            hovertemplate="mean: %{x:+.4f}<extra></extra>",
            showlegend=False, marker={"symbol": "diamond", "size": 13, "color": shade},
        )
    )  # fmt: skip
    return out


def _limits(effects: Sequence[Effect], zero: float, margin: float | None) -> Interval:
    """Around all seeds, and intervals as far as their range again: those of two seeds would dwarf everything else."""
    values = [value for effect in effects for value, _ in effect.dots] + [effect.mean for effect in effects]
    known = [value for value in values if math.isfinite(value)] + [zero, zero - (margin or 0), zero + (margin or 0)]
    low, high = min(known), max(known)
    room = (high - low) or 0.01
    ends = [end for effect in effects if effect.interval for end in effect.interval if math.isfinite(end)]
    inside = [min(max(end, low - room), high + room) for end in ends]
    low, high = min([low, *inside]), max([high, *inside])
    return low - 0.06 * (high - low or 1), high + 0.06 * (high - low or 1)
