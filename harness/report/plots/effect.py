"""Differences from the baseline: interval, mean, and every paired seed as a dot."""

from __future__ import annotations

from html import escape

from harness.report.comparison import Row, Section
from harness.report.plots.panel import shortened, spread, ticks, widened
from harness.report.words import interval_text, signed

MOST_ROWS = 40
_WIDTH, _ROW, _LEFT, _RIGHT = 400, 62, 14, 386
STYLES = {"better": "good", "worse": "bad"}


def effect_plot(section: Section) -> str:
    """One strip a comparison; empty without any."""
    rows = [row for row in section.rows if row.comparison is not None and row.comparison.n][:MOST_ROWS]
    if not rows:
        return ""
    low, high = _limits(rows)
    bottom = len(rows) * _ROW + 6

    def px(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * min(max((value - low) / (high - low), 0.0), 1.0), 1)

    parts = []
    for i, row in enumerate(rows):
        parts += _strip(row, i * _ROW, px, (low, high), len(section.baselines) > 1)
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    for value, words in ticks((low, high)):
        text = words if value <= 0 else f"+{words}"
        parts.append(f'<text class="tick" x="{px(value)}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    against = section.baselines[0] if len(section.baselines) == 1 else "the baseline"
    axis = f"{section.metric.name} minus that of {against}"
    shown = escape(shortened(axis, 60))
    parts.append(f'<text class="tick" x="{_WIDTH / 2}" y="{bottom + 34}" text-anchor="middle">{shown}</text>')
    return (
        f'<figure class="panel effect"><svg viewBox="0 0 {_WIDTH} {bottom + 40}" role="img" '
        f'aria-label="{escape(axis, quote=True)}: mean, 95 % interval and paired seeds">{"".join(parts)}</svg></figure>'
    )


def _strip(row: Row, top: float, px, limits: tuple[float, float], many: bool) -> list[str]:  # type: ignore[no-untyped-def]
    one = row.comparison
    assert one is not None
    style = STYLES.get(one.verdict, "undecided")
    middle = top + 46
    said = f"{one.verdict}: {signed(one.mean_difference)}"
    if one.n > 1:
        said += f" {interval_text(one.interval)}"
    said += f", {one.n} seed{'s' if one.n > 1 else ''}" + (f", vs {one.baseline}" if many else "")
    out = [
        f'<line class="zero" x1="{px(0)}" x2="{px(0)}" y1="{middle - 12}" y2="{middle + 12}"/>',
        f'<text class="back title" x="4" y="{top + 14}">{escape(shortened(row.label, 52))}</text>',
        f'<text class="back tick" x="4" y="{top + 29}">{escape(shortened(said, 66))}</text>',
    ]
    if one.n > 1:
        left, right = one.interval
        out.append(f'<line class="interval {style}" x1="{px(left)}" x2="{px(right)}" y1="{middle}" y2="{middle}"/>')
        # An arrow where the interval goes on beyond the drawing.
        if left < limits[0]:
            out.append(f'<path class="dot {style}" d="M{_LEFT - 8} {middle}l9 -6v12z"/>')
        if right > limits[1]:
            out.append(f'<path class="dot {style}" d="M{_RIGHT + 8} {middle}l-9 -6v12z"/>')
    for seed, value in zip(one.seeds, one.differences, strict=True):
        tip = f"seed {seed}: {signed(value)}"
        out.append(f'<circle class="seed" cx="{px(value)}" cy="{middle}" r="3.5"><title>{escape(tip)}</title></circle>')
    mean = px(one.mean_difference)
    out.append(f'<path class="dot {style}" d="M{mean} {middle - 8}l5 8l-5 8l-5 -8z"><title>mean</title></path>')
    return out


def _limits(rows: list[Row]) -> tuple[float, float]:
    """Around all seeds, and intervals as far as three times that: two seeds have intervals that dwarf everything."""
    seeds = [value for row in rows if row.comparison for value in row.comparison.differences]
    low, high = widened(spread([0.0, *seeds]))
    room = high - low
    ends = [end for row in rows if row.comparison and row.comparison.n > 1 for end in row.comparison.interval]
    inside = [min(max(end, low - room), high + room) for end in ends]
    return widened(spread([low, high, *inside]))
