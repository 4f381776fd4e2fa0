"""Which IoU the available and the sampled candidates have: histograms, and how the mixture moves in training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from harness.report.plots.panel import Panel, colour, spread
from harness.report.sampling import Counts, Sampling

BANDS = (0.05, 0.1, 0.2, 0.3, 0.5)  # upper ends; the last band is open
BAND_NAMES = ("below 0.05", "0.05 to 0.1", "0.1 to 0.2", "0.2 to 0.3", "0.3 to 0.5", "0.5 and more")
_MOST_WINDOWS = 60


def negative_panel(title: str, found: Sampling, stage: str, population: str, style: str) -> str:
    """Sampled negatives (bars) over the available ones (outline), as shares."""
    taken, offered = (found.total(stage, name, "negative") for name in (population, "available"))
    edges = _edges(found)
    top = _last(edges, taken + offered)
    limits = spread([*_shares(taken), *_shares(offered)], 0.12, zero=True)
    panel = Panel(title, (0, top), limits, "IoU with the nearest object", "share of negatives")
    _bars(panel, edges, _shares(taken), f"bar {style}")
    _outline(panel, edges, _shares(offered))
    share = found.easy_share(stage, population)
    if share == share:
        panel.label(348, 46, f"{_percent(share)} below 0.05", "title", "end")
        panel.label(348, 62, f"available: {_percent(found.easy_share(stage, 'available'))}", "tick", "end")
    return panel.svg(f"{title}: IoU of sampled and available negatives")


def positive_panel(title: str, found: Sampling, stage: str, population: str, style: str) -> str:
    """Sampled positives (bars) over the available ones (outline); joined ground-truth boxes apart, at the right end."""
    taken, offered = (found.total(stage, name, "positive") for name in (population, "available"))
    truth, offered_truth = (found.total(stage, name, "truth") for name in (population, "available"))
    edges = _edges(found)
    bars, boxes = _beside(taken, truth)
    outline, offered_boxes = _beside(offered, offered_truth)
    limits = spread([*bars, *outline, boxes, offered_boxes], 0.12, zero=True)
    tick = [(value / 5, f"{value / 5:g}") for value in range(6)]
    extra = [(1.09, "boxes")] if truth.sum() else []
    panel = Panel(
        title, (0, 1.15 if extra else 1), limits, "IoU with its object", "share of positives", x_ticks=tick + extra
    )
    _bars(panel, edges, bars, f"bar {style}")
    _outline(panel, edges, outline)
    if extra:
        panel.bar((1.04, 1.14), (0, boxes), "bar truth", f"ground-truth boxes that joined: {boxes:.0%}")
        panel.line((1.04, 1.04, 1.14, 1.14), (0, offered_boxes, offered_boxes, 0), "outline")
        panel.text(1.09, max(boxes, offered_boxes), _percent(boxes), "tick", "middle", dy=-4)
    return panel.svg(f"{title}: IoU of sampled and available positives")


def over_time_panel(title: str, found: Sampling, stage: str, population: str) -> str:
    """Sampled negatives by bands of IoU over the iterations, as shares that add up to 1."""
    windows = found.windows[stage, population, "negative"]
    at, counts = _thinned(found.iterations, windows)
    uppers = np.append(found.edges, np.inf)
    bounds = np.searchsorted(uppers, [*(upper + 1e-6 for upper in BANDS), np.inf], side="right")
    running = np.concatenate([np.zeros((len(counts), 1), np.int64), counts.cumsum(1)], axis=1)
    shares = running[:, np.minimum(bounds, counts.shape[1])] / np.maximum(counts.sum(1, keepdims=True), 1)
    panel = Panel(title, (float(at[0]), float(at[-1])), (0, 1), "iteration", "share of sampled negatives")
    xs = [float(value) for value in at]
    low = np.zeros(len(at))
    for k in range(len(BAND_NAMES)):
        panel.band(xs, low.tolist(), shares[:, k].tolist(), f"area a{k}")
        low = shares[:, k]
    return panel.svg(f"{title}: sampled negatives by IoU over the iterations")


def easy_over_time_panel(stage: str, found: Sequence[Sampling | None]) -> str:
    """The share of sampled negatives below 0.05 over the iterations, one line per method; dotted: available."""
    lines = []
    for i, one in enumerate(found):
        if one is not None and stage in one.stages:
            for population, style in (("sampled", colour(i)), ("available", f"{colour(i)} dotted")):
                at, counts = _thinned(one.iterations, one.windows[stage, population, "negative"])
                total = counts.sum(1)
                share = np.where(total > 0, counts[:, one.easy_bins].sum(1) / np.maximum(total, 1), np.nan)
                lines.append((at.tolist(), share.tolist(), style))
    end = max(float(at[-1]) for at, _, _ in lines)
    limits = spread([value for _, share, _ in lines for value in share], 0.08)
    panel = Panel(
        f"{stage}: negatives below IoU 0.05", (0, end), limits, "iteration", "share; dotted: of what was available"
    )
    for at, share, style in lines:
        panel.line(at, share, style)
    return panel.svg()


def _thinned(iterations: Counts, windows: Counts) -> tuple[Counts, Counts]:
    """Neighbouring windows added up, so that a long training makes no long drawing."""
    size = -(-len(iterations) // _MOST_WINDOWS)
    starts = np.arange(0, len(iterations), size)
    ends = np.minimum(starts + size, len(iterations)) - 1
    return iterations[ends], np.add.reduceat(windows, starts, axis=0)


def _edges(found: Sampling) -> list[float]:
    return [0.0, *(float(edge) for edge in found.edges), 1.0]


def _shares(counts: Counts) -> list[float]:
    shares: list[float] = (counts / max(int(counts.sum()), 1)).tolist()
    return shares


def _beside(counts: Counts, truth: Counts) -> tuple[list[float], float]:
    """Shares of the bins and of the ground-truth boxes in both together."""
    whole = max(int(counts.sum() + truth.sum()), 1)
    return (counts / whole).tolist(), float(truth.sum() / whole)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _last(edges: Sequence[float], counts: Counts) -> float:
    """Where the histogram ends: the upper end of the last bin that holds something, at least 0.3."""
    filled = np.flatnonzero(counts)
    return max(edges[filled[-1] + 1], 0.3) if len(filled) else 1.0


def _bars(panel: Panel, edges: Sequence[float], shares: Sequence[float], style: str) -> None:
    for (low, high), share in zip(pairwise(edges), shares, strict=True):
        if share:
            panel.bar((low, high), (0, share), style, f"IoU {low:.2f} to {high:.2f}: {share:.1%}")


def _outline(panel: Panel, edges: Sequence[float], shares: Sequence[float]) -> None:
    xs = [edge for edge in edges for _ in range(2)]
    ys = [0.0, *(share for share in shares for _ in range(2)), 0.0]
    panel.line(xs, ys, "outline")
