"""Histograms as steps: what was sampled, a line per method, over what was available (dotted)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from harness.report.figures.style import MUTED, Trace, color, line, method_trace, rounded
from harness.report.sampling import Sampling


@dataclass(frozen=True)
class Population:
    """One histogram that is drawn: whose, of which candidates, and in which style."""

    found: Sampling
    name: str  # available | sampled | the name of a shadow sampler
    label: str
    style: int  # of the method

    @property
    def naming(self) -> dict[str, str]:
        """The name of its trace, where the method's would be that of two traces; both are toggled with the method."""
        if self.name != "available" or self.label == self.name:
            return {}
        return {"name": escape(f"{self.label}, available", quote=False)}


def step_trace(
    one: Population, at: Sequence[float], shares: NDArray[np.float64], bins: Sequence[str], **more: object
) -> Trace:
    """Shares of bins as steps. ``at`` has one place more than there are bins; ``bins`` names each bin."""
    ys = [*rounded(shares.tolist(), 4), *rounded(shares[-1:].tolist(), 4)]
    told = {
        "customdata": [*bins, bins[-1]],
        "hovertemplate": "%{customdata}: %{y:.1%}<extra>%{fullData.name}</extra>",
        **more,
    }
    if one.name == "available":
        dotted = {"shape": "hv", "dash": "dot", "width": 1.6, "color": color(one.style)}
        return method_trace(
            one.label, type="scatter", mode="lines", x=rounded(at), y=ys, line=dotted, **told, **one.naming
        )
    return line(one.style, one.label, at, [], line={"shape": "hv"}, **told) | {"y": ys}


def truth_trace(one: Population, share: float, at: float) -> Trace:
    """The share of ground-truth boxes that joined the proposals, beside a histogram."""
    return method_trace(
        one.label, type="scatter", mode="markers", x=[at], y=rounded([share], 4), showlegend=False, **one.naming,
        hovertemplate="ground-truth boxes that joined: %{y:.1%}<extra>%{fullData.name}</extra>",
        marker={"symbol": "circle-open" if one.name == "available" else "circle", "size": 9,
                "color": MUTED if one.name == "available" else color(one.style)},
    )  # fmt: skip
