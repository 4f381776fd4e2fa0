"""What a report is made of: one list of parts, which every view (HTML, Markdown, terminal, LaTeX) renders in its way.

Parts hold data that was read before. A view reads no file and computes no statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

T_co = TypeVar("T_co", covariant=True)
Align = Literal["left", "right"]
Order = Literal["ascending", "descending"]
Kind = Literal["lead", "question", "answer", "warning", "note", "caption", "code"]


class View(Protocol[T_co]):
    """One way to render a report: a method for each kind of part."""

    def heading(self, part: Heading) -> T_co:
        """Renders a heading."""

    def text(self, part: Text) -> T_co:
        """Renders sentences."""

    def table(self, part: Table) -> T_co:
        """Renders a table."""

    def figure(self, part: Figure) -> T_co:
        """Renders a plot, or leaves it out."""

    def gallery(self, part: Gallery) -> T_co:
        """Renders pictures with boxes, or leaves them out."""

    def fold(self, part: Fold) -> T_co:
        """Renders parts that are details, or leaves them out."""


class Part(Protocol):
    """One piece of a report."""

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for this kind of part."""


@dataclass(frozen=True)
class Heading:
    """A heading. Level 1 is the report's, 2 a section's, 3 and 4 stand inside a section."""

    text: str
    level: int = 2

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for headings."""
        return view.heading(self)


@dataclass(frozen=True)
class Text:
    """Sentences of one kind, one list item or paragraph each."""

    lines: Sequence[str]
    kind: Kind = "note"

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for text."""
        return view.text(self)


@dataclass(frozen=True)
class Column:
    """How a column of a table is shown and sorted."""

    head: str
    align: Align = "left"
    first_click: Order = "ascending"  # scores start with the highest
    extra: bool = False  # left out where there is no room: on a terminal
    help: str = ""  # one sentence that explains the column


@dataclass(frozen=True)
class Cell:
    """What is shown, what is sorted by, and how it looks (a verdict's color)."""

    text: str
    value: float | None = None
    style: str = ""  # better | worse | same | open, or nothing


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells. The first column names the row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    bold: tuple[int, ...] = ()  # rows to emphasize
    title: str = ""

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for tables."""
        return view.table(self)

    def without_extra(self) -> Table:
        """The table without the columns that a narrow view leaves out."""
        kept = [j for j, column in enumerate(self.columns) if not column.extra]
        rows = [[row[j] for j in kept] for row in self.rows]
        return Table([self.columns[j] for j in kept], rows, self.bold, self.title)


@dataclass(frozen=True)
class Figure:
    """An interactive plot. The same plotly figure goes to the page, to W&B and to a notebook."""

    key: str  # unique within the report, e.g. "differences" or "curves/loss_classifier"
    title: str
    draw: Callable[[], Plot] = field(repr=False)
    caption: str = ""
    methods: Mapping[str, str] = field(default_factory=dict)  # name -> color of the methods that can be toggled
    wide: bool = False  # takes the width of the page

    @cached_property
    def plot(self) -> Plot:
        """The plotly figure, drawn at the first use."""
        return self.draw()

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for figures."""
        return view.figure(self)


@dataclass(frozen=True)
class Box:
    """A rectangle on a picture, in pixels of that picture."""

    x: float
    y: float
    width: float
    height: float
    kind: str  # found | false | missed | ignored | object
    text: str  # class and score, or what is wrong


@dataclass(frozen=True)
class Picture:
    """An image with boxes. ``jpeg`` may be shared by several pictures."""

    jpeg: bytes = field(repr=False)
    width: int
    height: int
    title: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Gallery:
    """Rows of pictures that belong together, such as one image through two methods."""

    key: str
    title: str
    rows: Sequence[tuple[str, Sequence[Picture]]]  # what the row shows, and its pictures side by side
    caption: str = ""

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for galleries."""
        return view.gallery(self)


@dataclass(frozen=True)
class Fold:
    """Details that are closed until a reader opens them; short views leave them out."""

    title: str
    parts: Sequence[Part]

    def accept(self, view: View[T_co]) -> T_co:
        """Calls the view's method for details."""
        return view.fold(self)


def flattened(parts: Sequence[Part]) -> Iterator[Part]:
    """All parts, those inside folds included, in order."""
    for part in parts:
        yield part
        if isinstance(part, Fold):
            yield from flattened(part.parts)


def shown_parts(parts: Sequence[Part]) -> tuple[list[Figure], list[Gallery]]:
    """The figures and galleries of a report, for a view that shows nothing else."""
    every = list(flattened(parts))
    return [part for part in every if isinstance(part, Figure)], [part for part in every if isinstance(part, Gallery)]
