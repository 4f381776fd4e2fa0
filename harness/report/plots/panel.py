"""One small plot with two axes. Colours are CSS classes of the page: ``c0`` ... ``c7`` for methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

NUM_COLOURS = 8
Range = tuple[float, float]


class Panel:
    """Maps data to a 360-unit wide drawing, which a phone shows at its own size, and collects SVG elements."""

    def __init__(
        self,
        title: str,
        x: Range,
        y: Range,
        x_label: str = "",
        y_label: str = "",
        height: int = 228,
        width: int = 360,
        x_ticks: Sequence[tuple[float, str]] | None = None,
        y_ticks: Sequence[tuple[float, str]] | None = None,
        left: int = 50,
    ) -> None:
        self.title = title
        self.width, self.height = width, height
        self._box = (left, 42.0 if y_label else 28.0, width - 10.0, height - (40.0 if x_label else 24.0))
        self._x, self._y = widened(x), widened(y)
        self._parts: list[str] = []
        self._axes(x_label, y_label, ticks(self._x) if x_ticks is None else x_ticks, y_ticks)

    def px(self, x: float) -> float:
        """Data to drawing, across; clipped to the frame."""
        low, high = self._x
        left, _, right, _ = self._box
        return left + (right - left) * min(max((x - low) / (high - low), 0.0), 1.0)

    def py(self, y: float) -> float:
        """Data to drawing, downwards; clipped to the frame."""
        low, high = self._y
        _, top, _, bottom = self._box
        return bottom - (bottom - top) * min(max((y - low) / (high - low), 0.0), 1.0)

    def line(self, xs: Iterable[float], ys: Iterable[float], style: str) -> None:
        """A line that is broken where a value does not exist."""
        points: list[str] = []
        pen = "M"
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                points.append(f"{pen}{_n(self.px(x))} {_n(self.py(y))}")
                pen = "L"
            else:
                pen = "M"
        if points:
            self._parts.append(f'<path class="line {style}" d="{"".join(points)}"/>')

    def band(self, xs: Iterable[float], low: Iterable[float], high: Iterable[float], style: str) -> None:
        """The area between two lines, as ``band`` or, with ``area`` in the style, filled."""
        rows = [row for row in zip(xs, low, high, strict=True) if all(map(math.isfinite, row))]
        if rows:
            there = [f"{_n(self.px(x))} {_n(self.py(b))}" for x, _, b in rows]
            back = [f"{_n(self.px(x))} {_n(self.py(a))}" for x, a, _ in reversed(rows)]
            self._parts.append(f'<path class="{style}" d="M{"L".join(there + back)}Z"/>')

    def bar(self, x: Range, y: Range, style: str, tip: str = "") -> None:
        """A filled rectangle in data coordinates."""
        left, right = sorted((self.px(x[0]), self.px(x[1])))
        top, bottom = sorted((self.py(y[0]), self.py(y[1])))
        shape = f'x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}"'
        self._parts.append(_tipped(f'<rect class="{style}" {shape}', tip))

    def dot(self, x: float, y: float, style: str, tip: str = "", radius: float = 4) -> None:
        """A point; left out where it has no value."""
        if math.isfinite(x) and math.isfinite(y):
            shape = f'cx="{_n(self.px(x))}" cy="{_n(self.py(y))}" r="{_n(radius)}"'
            self._parts.append(_tipped(f'<circle class="{style}" {shape}', tip))

    def text(
        self, x: float, y: float, words: str, style: str = "", anchor: str = "start", dx: float = 0, dy: float = 0
    ) -> None:
        """Words at a place in data coordinates."""
        self.label(self.px(x) + dx, self.py(y) + dy, words, style, anchor)

    def label(self, x: float, y: float, words: str, style: str = "", anchor: str = "start") -> None:
        """Words at a place of the drawing."""
        self._parts.append(
            f'<text class="{style}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def rule(self, x: float | None = None, y: float | None = None, style: str = "zero") -> None:
        """A line across the frame at one value."""
        left, top, right, bottom = self._box
        x1, x2 = (left, right) if x is None else (self.px(x),) * 2
        y1, y2 = (top, bottom) if y is None else (self.py(y),) * 2
        self._parts.append(f'<line class="{style}" x1="{_n(x1)}" x2="{_n(x2)}" y1="{_n(y1)}" y2="{_n(y2)}"/>')

    def svg(self, described: str = "") -> str:
        """The figure."""
        said = escape(described or self.title, quote=True)
        return (
            f'<figure class="panel"><svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{said}">'
            f"{''.join(self._parts)}</svg></figure>"
        )

    def _axes(
        self,
        x_label: str,
        y_label: str,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]] | None,
    ) -> None:
        left, _, right, bottom = self._box
        self.label(8, 15, shortened(self.title, 52), "title")
        for value, words in ticks(self._y, 4) if y_ticks is None else y_ticks:
            self.rule(y=value, style="grid")
            self.label(left - 6, self.py(value) + 4, words, "tick", "end")
        for value, words in x_ticks:
            self._parts.append(
                f'<line class="axis" x1="{_n(self.px(value))}" x2="{_n(self.px(value))}" '
                f'y1="{_n(bottom)}" y2="{_n(bottom + 4)}"/>'
            )
            self.label(self.px(value), bottom + 16, words, "tick", "middle")
        self._parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{_n(bottom)}" y2="{_n(bottom)}"/>')
        if x_label:
            self.label((left + right) / 2, self.height - 6, x_label, "tick", "middle")
        if y_label:
            self.label(8, 29, shortened(y_label, 60), "tick")


def ticks(limits: Range, about: int = 5) -> list[tuple[float, str]]:
    """Round values inside the limits, with their texts."""
    low, high = limits
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.75)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(i * step, _tick(i * step, digits)) for i in range(first, last + 1)]


def widened(limits: Range) -> Range:
    """The limits, or a little room around them where they are one value or none."""
    low, high = limits
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    if high - low > 1e-12 * max(abs(low), abs(high), 1e-9):
        return low, high
    room = abs(low) * 0.1 or 1.0
    return low - room, high + room


def spread(values: Iterable[float], room: float = 0.05, zero: bool = False) -> Range:
    """Limits around the values that exist, with some room; from 0 if asked."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    low = min(low, 0.0) if zero else low
    extra = (high - low) * room
    return (low if zero and low == 0 else low - extra), high + extra


def panels(figures: Iterable[str]) -> str:
    """Figures side by side as far as the page is wide."""
    inside = "".join(figures)
    return f'<div class="panels">{inside}</div>' if inside else ""


def legend(names: Sequence[tuple[str, str]]) -> str:
    """(style, name) in the colours of the plots that follow."""
    items = "".join(
        '<li><svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">'
        f'<path class="line {style}" d="M1 6L25 6"/></svg>{escape(name)}</li>'
        for style, name in names
    )
    return f'<ul class="legend">{items}</ul>'


def colour(index: int) -> str:
    """The style of the i-th method drawn."""
    return f"c{index % NUM_COLOURS}"


def shortened(words: str, most: int) -> str:
    """At most so many characters."""
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _tick(value: float, digits: int) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.{digits}f}".replace("-", "−") if value else "0"


def _tipped(opened: str, tip: str) -> str:
    return f"{opened}><title>{escape(tip)}</title></{opened[1:].split()[0]}>" if tip else f"{opened}/>"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
