"""Colors, lines and layout that all figures share.

A method has one color, one dash and one marker in every figure of a report: those of its style, an index that
`harness.report.method_styles` gives to its name. The colors were chosen by their smallest CIELAB distance under
simulated deuteranopia, protanopia and tritanopia (Machado et al. 2009); a test repeats that.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

Trace = dict[str, Any]

# Baseline first. LIGHT[i] is shown as DARK[i] on a dark page.
LIGHT = ("#4d5560", "#2584e8", "#b04a12", "#1f7a4d", "#6600a5", "#cc7a00", "#22a47a", "#ef3fa6")
DARK = ("#c3cad3", "#1fa2ff", "#e8623f", "#52e07f", "#a154c8", "#ffe33c", "#b0f0d8", "#ff62b0")
DASHES = ("solid", "solid", "dash", "dot", "dashdot", "longdash", "dash", "dot")
MARKERS = ("diamond", "circle", "square", "triangle-up", "cross", "x", "star", "triangle-down")
PATTERNS = ("", "/", "x", "-", ".", "|", "\\", "+")  # of bars; a bar has no dash and no marker
NUM_METHODS = len(LIGHT)  # drawn in one figure

TEXT, MUTED, GRID, PAPER = "#1b1f24", "#57606a", "#dfe3e8", "#ffffff"
DARK_OF = {TEXT: "#e6e9ed", MUTED: "#a3adb8", GRID: "#333a42", PAPER: "#14171b"}
# Shares of negatives by IoU, from far to near: one hue from pale to deep.
BANDS = ("#dbe9f6", "#a8cde8", "#62a5d4", "#2f78b7", "#14508c", "#0a2c54")
DARK_BANDS = ("#1c3350", "#25507c", "#3375ad", "#5a9fd4", "#97c6ec", "#deeefb")
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def color(style: int) -> str:
    """The color of a style on a light page; it repeats after NUM_METHODS styles."""
    return LIGHT[style % NUM_METHODS]


def dash(style: int) -> str:
    """The dash of a style's lines; another one for the next style of the same color."""
    return DASHES[(style + 2 * (style // NUM_METHODS)) % NUM_METHODS]


def marker(style: int) -> str:
    """The symbol of a style's markers; another one for the next style of the same color."""
    return MARKERS[(style + style // NUM_METHODS) % NUM_METHODS]


def pattern(style: int) -> str:
    """What a style's bars are filled with; plain for the first style of a color."""
    return PATTERNS[style // NUM_METHODS % len(PATTERNS)]


def method_colors(styles: Mapping[str, int]) -> dict[str, str]:
    """Each method and its color, for the buttons that hide it."""
    return {name: color(style) for name, style in styles.items()}


def dark_colors() -> dict[str, str]:
    """Every color that figures use on a light page -> the one that a dark page shows."""
    pairs = {**dict(zip(LIGHT, DARK, strict=True)), **dict(zip(BANDS, DARK_BANDS, strict=True)), **DARK_OF}
    faint = {translucent(light): translucent(dark) for light, dark in pairs.items()}
    return pairs | faint


def translucent(hexadecimal: str, opacity: float = 0.16) -> str:
    """A color as plotly wants it where it shall be seen through."""
    red, green, blue = (int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def line(style: int, name: str, xs: Iterable[float], ys: Iterable[float], /, **more: Any) -> Trace:
    """A method's line."""
    drawn = {"color": color(style), "width": 2, "dash": dash(style)} | more.pop("line", {})
    trace = {"type": "scatter", "mode": "lines", "x": rounded(xs), "y": rounded(ys), "line": drawn}
    return method_trace(name, **{**trace, **more})


def method_trace(name: str, /, **more: Any) -> Trace:
    """A trace that is toggled with its method. ``legendgroup`` is what the page and plotly's legend toggle by."""
    return {"name": escape(name, quote=False), "legendgroup": name, "showlegend": True} | more


def figure(
    traces: Sequence[Trace],
    title: str,
    x_title: str = "",
    y_title: str = "",
    height: float = 280,
    x_axis: Mapping[str, Any] | None = None,
    y_axis: Mapping[str, Any] | None = None,
    **layout: Any,
) -> Plot:
    """A plotly figure in the report's style."""
    from plotly import graph_objects

    axis = {
        "gridcolor": GRID,
        "zerolinecolor": GRID,
        "linecolor": MUTED,
        "tickfont": {"size": 12, "color": MUTED},
        "automargin": True,
    }
    settings = {
        "template": graph_objects.layout.Template(),  # none: plotly's own adds 7 KB to each figure
        "title": {"text": title, "x": 0, "xref": "paper", "font": {"size": 14}},
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 36, "b": 8},
        "font": {"family": FONT, "size": 12, "color": TEXT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"color": TEXT, "family": FONT, "size": 12}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": TEXT},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        "xaxis": {**axis, "title": {"text": x_title, "standoff": 10, "font": {"color": MUTED}}, **(x_axis or {})},
        "yaxis": {**axis, "title": {"text": y_title, "standoff": 10, "font": {"color": MUTED}}, **(y_axis or {})},
    }
    return graph_objects.Figure(data=list(traces), layout={**settings, **layout})


def rounded(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Numbers with so many significant digits, to keep the page small; None where a value does not exist."""
    return [float(f"{float(value):.{digits}g}") if math.isfinite(value) else None for value in values]


def wrapped(text: str, width: int) -> str:
    """Text with line breaks for a plot, its special characters escaped."""
    return "<br>".join(escape(line, quote=False) for line in textwrap.wrap(text, width) or [""])
