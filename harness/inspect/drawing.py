"""Pictures with boxes. Colors are Okabe and Ito's, which color-blind readers tell apart; lines differ as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.runs.records import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, YELLOW, PURPLE, BLACK, GRAY = "#56B4E9", "#F0E442", "#CC79A7", "#000000", "#555555"
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
    """Writes a PNG, whole or not at all."""
    with atomic_write(path, "wb") as file:
        sheet.savefig(file, format="png")
    return path


def show(axes: Axes, image: Array, title: str = "", fade: float = 0.0) -> None:
    """An image ``(H, W, 3)`` in 0..1, paled by ``fade`` so that lines stand out, with one pixel of space around it."""
    axes.imshow(image * (1 - fade) + fade, interpolation="nearest", extent=(0, image.shape[1], image.shape[0], 0))
    axes.set_xlim(-1, image.shape[1] + 1)
    axes.set_ylim(image.shape[0] + 1, -1)
    if title:
        write_title(axes, title)


def box(axes: Axes, corners: Sequence[float], pen: Pen) -> None:
    """A box ``(x1, y1, x2, y2)``, white under its color so that it shows on any background."""
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


def mask(axes: Axes, pixels: Array, pen: Pen, strength: float = 0.35) -> None:
    """Tints the pixels ``(H, W)`` that are not 0 in the pen's color, and draws their outline."""
    from matplotlib.colors import to_rgb

    layer = np.zeros((*pixels.shape, 4))
    layer[..., :3], layer[..., 3] = to_rgb(pen.color), strength * (pixels != 0)
    axes.imshow(layer, interpolation="nearest", extent=(0, pixels.shape[1], pixels.shape[0], 0))
    framed = np.pad(pixels != 0, 1).astype(float)  # a mask that touches the border has an outline there, too
    x, y = (np.arange(side + 2) - 0.5 for side in reversed(pixels.shape))
    if framed.any():
        axes.contour(x, y, framed, levels=[0.5], colors="white", linewidths=1.2)


def write_title(axes: Axes, text: str) -> None:
    """A title of several lines, none of them longer than the picture is wide."""
    axes.set_title("\n".join(plain(line, 60) for line in text.split("\n")), fontsize=8, parse_math=False)


class Labels:
    """Places labels at boxes so that none covers another; what finds no place is left out and counted.

    Args:
        axes: an image that :func:`show` has drawn.
        width: of the picture on the sheet, inches.
    """

    SIZE = 6.5  # points
    STEPS = 8  # places that are tried above and below the wanted one

    def __init__(self, axes: Axes, width: float = PANEL) -> None:
        self._axes = axes
        self._right, self._bottom = axes.get_xlim()[1], axes.get_ylim()[0]
        pixels_a_point = max(self._right, self._bottom) / (0.9 * width * 72)
        self._line = 1.45 * self.SIZE * pixels_a_point
        self._letter = 0.62 * self.SIZE * pixels_a_point
        self._taken: list[tuple[float, float, float, float]] = []
        self.left_out = 0

    def add(self, corners: Sequence[float], text: str, pen: Pen, below: bool = False) -> None:
        """A label at the upper left corner of a box, or at the lower one."""
        x1, y1, _, y2 = (float(value) for value in corners)
        text = plain(text)
        width = self._letter * len(text)
        x = min(max(x1, 0.0), max(0.0, self._right - width))
        wanted = y2 if below else y1 - self._line
        steps = (wanted + sign * step * self._line for step in range(self.STEPS) for sign in (1, -1))
        for y in steps:
            place = (x, y, x + width, y + self._line)
            inside = y >= -1 and y + self._line <= self._bottom
            if inside and not any(_overlap(place, other) for other in self._taken):
                self._taken.append(place)
                self._write(x, y, text, pen)
                return
        self.left_out += 1

    def _write(self, x: float, y: float, text: str, pen: Pen) -> None:
        self._axes.text(
            x,
            y,
            text,
            fontsize=self.SIZE,
            va="top",
            color="white" if pen.color not in (YELLOW, SKY, ORANGE) else BLACK,
            bbox={"boxstyle": "square,pad=0.12", "facecolor": pen.color, "edgecolor": "none"},
            clip_on=True,
            parse_math=False,
        )


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def plain(text: str, most: int = 40) -> str:
    """A name as it can be drawn: on one line, cut in its middle, characters that the font lacks as U+XXXX."""
    drawn = "".join(c if ord(c) in _glyphs() else f"[U+{ord(c):04X}]" for c in " ".join(text.split()))
    return drawn if len(drawn) <= most else f"{drawn[: most // 2 - 1]}...{drawn[-(most // 2 - 2) :]}"


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def dots(axes: Axes, centers: Array, pen: Pen, sizes: Array | float = 16.0) -> None:
    """Points in the pen's color and marker, their areas in square points."""
    edge: dict[str, Any] = {"linewidths": 1.0} if pen.marker == "x" else {"linewidths": 0.5, "edgecolors": "white"}
    axes.scatter(centers[:, 0], centers[:, 1], s=sizes, c=pen.color, marker=pen.marker, zorder=3, **edge)


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
