"""What is told of candidates besides their IoU: loss, box size, feature level, and how many an image or object has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.report.figures.steps import Population, step_trace
from harness.report.figures.style import figure
from harness.report.sampling import Counts

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

Shares = NDArray[np.float64]
_MOST_TICKS = 9
_NEGLIGIBLE = 1e-3  # share of a bin at the end of a drawing that is cut off


@dataclass(frozen=True)
class Quantity:
    """How the histograms of one quantity are drawn."""

    titles: dict[str, str]  # by the kind that is drawn
    axis: str
    counted: str = ""  # what a share is one of; the kind, if not given
    whole_numbers: bool = False  # a bin is named by its smallest number; else its bounds are named


def _of_both(what: str) -> dict[str, str]:
    return {"negative": f"{what} of negatives", "positive": f"{what} of positives"}


QUANTITIES = {
    "loss": Quantity(_of_both("Classification loss"), "loss, logarithmic"),
    "size": Quantity(_of_both("Box size"), "square root of the area, px, logarithmic"),
    "level": Quantity(_of_both("Feature level"), "level, 0 is the finest", whole_numbers=True),
    "per_image": Quantity(
        {"negative": "Negatives per image", "positive": "Positives per image"}, "from", "images", True
    ),
    "per_object": Quantity({"with_truth": "Positives per object, its own box included"}, "from", "objects", True),
}


def candidate_figures(stage: str, lines: Sequence[Population]) -> Iterator[tuple[str, str, Callable[[], Plot]]]:
    """Key, title and drawing function for each quantity and kind of which some line has a candidate."""
    for name, quantity in QUANTITIES.items():
        for kind, title in quantity.titles.items():
            found = [(one, one.found.histogram(stage, name, one.name, kind)) for one in lines]
            known = [(one, counts) for one, counts in found if counts is not None and counts.sum()]
            edges = next((one.found.edges_of[name] for one, _ in known), None)
            if edges is not None and not _single_level(name, [counts for _, counts in known]):
                shares = [(one, counts / counts.sum()) for one, counts in known]
                yield f"{name}-{kind}", title, partial(_draw, quantity, kind, shares, edges)


def _single_level(quantity: str, counts: Sequence[Counts]) -> bool:
    """A detector without a pyramid: there is nothing to compare."""
    return quantity == "level" and sum(np.any([one > 0 for one in counts], axis=0)) < 2


def _draw(quantity: Quantity, kind: str, drawn: Sequence[tuple[Population, Shares]], edges: Shares) -> Plot:
    """Shares as steps over the bins that hold anything."""
    filled = np.flatnonzero(np.any([share > _NEGLIGIBLE for _, share in drawn], axis=0))
    first, last = int(filled[0]), int(filled[-1]) + 1
    places, names = _ticks(edges, first, last, quantity.whole_numbers)
    bins = _bins(edges, quantity.whole_numbers)[first:last]
    traces = [step_trace(one, list(range(first, last + 1)), share[first:last], bins) for one, share in drawn]
    return figure(
        traces,
        quantity.titles[kind],
        quantity.axis,
        f"share of {quantity.counted or f'{kind}s'}",
        x_axis={"tickvals": places, "ticktext": names},
        y_axis={"tickformat": ".0%", "rangemode": "tozero"},
        hovermode="closest",
    )


def _bins(edges: Shares, whole: bool) -> list[str]:
    if whole:
        lowest = [0, *(int(np.ceil(edge)) for edge in edges)]
        closed = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in pairwise(lowest)]
        return [*closed, f"{lowest[-1]} and more"]
    named = [f"{edge:.3g}" for edge in edges]
    return [f"below {named[0]}", *(f"{a} to {b}" for a, b in pairwise(named)), f"from {named[-1]}"]


def _ticks(edges: Shares, first: int, last: int, whole: bool) -> tuple[list[float], list[str]]:
    """Bin i lies between i and i + 1: whole numbers are named in its middle, bounds at its ends, round ones first."""
    if whole:
        lowest = [0, *(int(np.ceil(edge)) for edge in edges)]
        named = [(i + 0.5, str(lowest[i])) for i in range(first, last)]
    else:
        inside = range(max(first, 1), min(last, len(edges)) + 1)
        powers_of_ten = [i for i in inside if abs(np.log10(edges[i - 1]) % 1 - 0.5) > 0.499]
        named = [(float(i), f"{edges[i - 1]:.4g}") for i in (powers_of_ten if len(powers_of_ten) > 1 else inside)]
    named = named[:: -(-len(named) // _MOST_TICKS)]
    return [place for place, _ in named], [words for _, words in named]
