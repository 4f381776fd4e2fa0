"""One strip per method: its interval, its mean, and what they were made of as dots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from harness.report.plots.panel import Range, shortened, ticks

_WIDTH, _ROW, _LEFT, _RIGHT = 400, 62, 14, 386


@dataclass(frozen=True)
class Strip:
    """What one method shows."""

    label: str
    said: str
    mean: float
    interval: Range | None
    dots: list[tuple[float, str]]  # value and what it is
    style: str  # good | bad | undecided


def strips_plot(
    strips: Sequence[Strip],
    limits: Range,
    zero: float,
    axis: str,
    described: str,
    tick: Callable[[float, str], str] = lambda _, words: words,
) -> str:
    """All strips over one axis, with a line where nothing differs."""
    low, high = limits
    bottom = len(strips) * _ROW + 6

    def px(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * min(max((value - low) / (high - low), 0.0), 1.0), 1)

    parts = []
    for i, strip in enumerate(strips):
        parts += _strip(strip, i * _ROW, px, limits, zero)
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    for value, words in ticks(limits):
        text = escape(tick(value, words))
        parts.append(f'<text class="tick" x="{px(value)}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    shown = escape(shortened(axis, 60))
    parts.append(f'<text class="tick" x="{_WIDTH / 2}" y="{bottom + 34}" text-anchor="middle">{shown}</text>')
    return (
        f'<figure class="panel effect"><svg viewBox="0 0 {_WIDTH} {bottom + 40}" role="img" '
        f'aria-label="{escape(described, quote=True)}">{"".join(parts)}</svg></figure>'
    )


def _strip(strip: Strip, top: float, px: Callable[[float], float], limits: Range, zero: float) -> list[str]:
    style, middle = strip.style, top + 46
    out = [
        f'<line class="zero" x1="{px(zero)}" x2="{px(zero)}" y1="{middle - 12}" y2="{middle + 12}"/>',
        f'<text class="back title" x="4" y="{top + 14}">{escape(shortened(strip.label, 52))}</text>',
        f'<text class="back tick" x="4" y="{top + 29}">{escape(shortened(strip.said, 66))}</text>',
    ]
    if strip.interval is not None:
        left, right = strip.interval
        out.append(f'<line class="interval {style}" x1="{px(left)}" x2="{px(right)}" y1="{middle}" y2="{middle}"/>')
        # An arrow where the interval goes on beyond the drawing.
        if left < limits[0]:
            out.append(f'<path class="dot {style}" d="M{_LEFT - 8} {middle}l9 -6v12z"/>')
        if right > limits[1]:
            out.append(f'<path class="dot {style}" d="M{_RIGHT + 8} {middle}l-9 -6v12z"/>')
    for value, tip in strip.dots:
        out.append(f'<circle class="seed" cx="{px(value)}" cy="{middle}" r="3.5"><title>{escape(tip)}</title></circle>')
    mean = px(strip.mean)
    out.append(f'<path class="dot {style}" d="M{mean} {middle - 8}l5 8l-5 8l-5 -8z"><title>mean</title></path>')
    return out
