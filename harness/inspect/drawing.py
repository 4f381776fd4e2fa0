"""Pictures with boxes. Colours are Okabe and Ito's, which colour-blind readers tell apart; lines differ as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, YELLOW, PURPLE, BLACK, GREY = "#56B4E9", "#F0E442", "#CC79A7", "#000000", "#555555"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, YELLOW)
PANEL = 3.1  # inches a picture
DPI = 110


@dataclass(frozen=True)
class Pen:
    """How a kind of box is drawn."""

    color: str
    line: Literal["solid", "dashed", "dotted", "none"] = "solid"
    width: float = 1.4
    label: str = ""  # in the legend
    marker: str = ""  # of a point


def figure(rows: int, columns: int, title: str, width: float = PANEL, height: float = PANEL) -> tuple[Figure, Array]:
    """A figure and its ``(rows, columns)`` axes, all of them empty. Nothing of matplotlib's global state is used."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(columns * width, rows * height + 0.7), dpi=DPI, layout="constrained")
    axes = sheet.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        place.set_axis_off()
    sheet.suptitle(title, fontsize=10)
    return sheet, axes


def save(sheet: Figure, path: Path) -> Path:
    """Writes a PNG."""
    sheet.savefig(path)
    return path


def show(axes: Axes, image: Array, title: str = "", fade: float = 0.0) -> None:
    """An image ``(H, W, 3)`` in 0..1, paled by ``fade`` so that lines stand out, with one pixel of space around it."""
    axes.imshow(image * (1 - fade) + fade, interpolation="nearest", extent=(0, image.shape[1], image.shape[0], 0))
    axes.set_xlim(-1, image.shape[1] + 1)
    axes.set_ylim(image.shape[0] + 1, -1)
    if title:
        axes.set_title(title, fontsize=8)


def box(axes: Axes, corners: Sequence[float], pen: Pen, text: str = "", below: bool = False) -> None:
    """A box ``(x1, y1, x2, y2)``, white under its colour so that it shows on any background, and its label."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    x1, y1, x2, y2 = (float(value) for value in corners)
    outline = [Stroke(linewidth=pen.width + 1.2, foreground="white"), Normal()]
    axes.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            fill=False,
            edgecolor=pen.color,
            linestyle=pen.line,
            linewidth=pen.width,
            path_effects=outline if pen.line == "solid" else None,
        )
    )
    if text:
        axes.text(
            min(max(x1, 1.0), axes.get_xlim()[1] - 6),
            y2 if below else max(y1, 6.0),
            text,
            fontsize=6.5,
            va="top" if below else "bottom",
            color="white" if pen.color not in (YELLOW, SKY, ORANGE) else BLACK,
            bbox={"boxstyle": "square,pad=0.12", "facecolor": pen.color, "edgecolor": "none"},
            clip_on=True,
        )


def dots(axes: Axes, centers: Array, pen: Pen) -> None:
    """Points in the pen's colour and marker."""
    edge: dict[str, Any] = {"linewidths": 1.0} if pen.marker == "x" else {"linewidths": 0.5, "edgecolors": "white"}
    axes.scatter(centers[:, 0], centers[:, 1], s=16, c=pen.color, marker=pen.marker, zorder=3, **edge)


def legend(sheet: Figure, pens: Sequence[Pen], points: bool = False, most: int = 5) -> None:
    """One legend under the figure, ``most`` kinds on a line; ``points``: of kinds that are drawn as points, too."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=p.color,
            linestyle=p.line,
            linewidth=2,
            label=p.label,
            marker=p.marker if points else None,
        )
        for p in pens
    ]
    sheet.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), most), fontsize=8, frameon=False)
