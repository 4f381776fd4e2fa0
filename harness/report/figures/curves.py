"""Learning curves: what was logged over the iterations, the mean over seeds as a line and their range as a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.report.figures.style import Trace, color, figure, line, method_trace, rounded, translucent
from harness.report.histories import Curve

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

_SHOWN_SHARE = 0.98  # a first step that diverges for a moment would flatten everything after it


def curve_figure(name: str, curves: Sequence[Curve | None], styles: Mapping[str, int]) -> Plot:
    """One logged quantity; ``curves[i]`` is that of the i-th method in ``styles`` (name -> style)."""
    of = zip(styles.items(), curves, strict=True)
    traces = [trace for method, curve in of if curve is not None for trace in _traces(curve, *method)]
    known = np.concatenate([np.concatenate([curve.low, curve.high]) for curve in curves if curve is not None])
    known = known[np.isfinite(known)]
    top = float(np.quantile(known, _SHOWN_SHARE)) * 1.08 if len(known) else 1.0
    axis = {"range": [0, top], "tickformat": "~g"} if len(known) and known.min() >= 0 and top > 0 else {}
    return figure(traces, name, "iteration", y_axis=axis, hovermode="x unified")


def _traces(curve: Curve, label: str, style: int) -> list[Trace]:
    xs = curve.iterations.tolist()
    out = []
    if curve.runs > 1:
        out.append(
            method_trace(
                label, type="scatter", mode="lines", x=[*xs, *xs[::-1]],
                y=rounded([*curve.high.tolist(), *curve.low.tolist()[::-1]]), line={"width": 0}, fill="toself",
                fillcolor=translucent(color(style)), hoverinfo="skip", showlegend=False,
            )
        )  # fmt: skip
    one = {"mode": "markers"} if len(xs) == 1 else {}
    marker = {"color": color(style)}
    out.append(line(style, label, xs, curve.mean.tolist(), hovertemplate="%{y:.4g}", marker=marker, **one))
    return out
