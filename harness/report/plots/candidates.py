"""What is told of candidates besides their IoU: loss, box size, feature level, and how many an image or object has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.plots.panel import Panel, spread
from harness.report.sampling import Counts, Sampling

Shares = NDArray[np.float64]
_MOST_TICKS = 9


@dataclass(frozen=True)
class Quantity:
    """How the histograms of one quantity are drawn."""

    titles: dict[str, str]  # by the kind that is drawn
    axis: str
    counted: str = ""  # what a share is one of; the kind, if not said
    whole_numbers: bool = False  # a bin is named by its smallest number; else its bounds are named


def _of_both(what: str) -> dict[str, str]:
    return {"negative": f"{what} of negatives", "positive": f"{what} of positives"}


QUANTITIES = {
    "loss": Quantity(_of_both("classification loss"), "loss, logarithmic"),
    "size": Quantity(_of_both("box size"), "square root of the area, px, logarithmic"),
    "level": Quantity(_of_both("feature level"), "level, 0 is the finest", whole_numbers=True),
    "per_image": Quantity(
        {"negative": "negatives of an image", "positive": "positives of an image"}, "from", "images", True
    ),
    "per_object": Quantity({"with_truth": "positives of an object, its own box included"}, "from", "objects", True),
}
_NEGLIGIBLE = 1e-3  # share of a bin at the end of a drawing that is cut off


@dataclass(frozen=True)
class Line:
    """One histogram that is drawn: whose, and in which style."""

    found: Sampling
    population: str
    style: str
    name: str


def candidate_panels(stage: str, lines: Sequence[Line]) -> Iterable[str]:
    """A panel for each quantity and kind of which some line has a candidate."""
    for name, quantity in QUANTITIES.items():
        for kind in quantity.titles:
            drawn = [(line, line.found.histogram(stage, name, line.population, kind)) for line in lines]
            known = [(line, counts) for line, counts in drawn if counts is not None and counts.sum()]
            edges = next((line.found.edges_of[name] for line, _ in known), None)
            if edges is not None and not _says_nothing(name, [counts for _, counts in known]):
                yield _panel(name, kind, [(line, counts / counts.sum()) for line, counts in known], edges)


def _says_nothing(quantity: str, counts: Sequence[Counts]) -> bool:
    """One level only: a detector without a pyramid."""
    return quantity == "level" and sum(np.any([one > 0 for one in counts], axis=0)) < 2


def _panel(name: str, kind: str, drawn: Sequence[tuple[Line, Shares]], edges: Shares) -> str:
    """Shares as steps over the bins that hold anything."""
    quantity = QUANTITIES[name]
    title, counted = quantity.titles[kind], quantity.counted or f"{kind}s"
    filled = np.flatnonzero(np.any([share > _NEGLIGIBLE for _, share in drawn], axis=0))
    first, last = int(filled[0]), int(filled[-1]) + 1
    limits = spread([float(value) for _, share in drawn for value in share], 0.08, zero=True)
    at = _ticks(edges, first, last, quantity.whole_numbers)
    panel = Panel(title, (first, last), limits, quantity.axis, f"share of {counted}", x_ticks=at)
    for line, share in drawn:
        xs = [float(x) for x in range(first, last + 1) for _ in range(2)]
        ys = [0.0, *(float(y) for y in share[first:last] for _ in range(2)), 0.0]
        panel.line(xs, ys, line.style)
    return panel.svg(f"{title}: {', '.join(line.name for line, _ in drawn)}")


def _ticks(edges: Shares, first: int, last: int, whole: bool) -> list[tuple[float, str]]:
    """Bin i lies between i and i + 1: whole numbers are named in its middle, bounds at its ends, round ones first."""
    if whole:
        lowest = [0, *(int(np.ceil(edge)) for edge in edges)]
        named = [(i + 0.5, str(lowest[i])) for i in range(first, last)]
    else:
        inside = range(max(first, 1), min(last, len(edges)) + 1)
        round_ones = [i for i in inside if abs(np.log10(edges[i - 1]) % 1 - 0.5) > 0.499]
        named = [(i, f"{edges[i - 1]:.4g}") for i in (round_ones if len(round_ones) > 1 else inside)]
    return named[:: -(-len(named) // _MOST_TICKS)]
