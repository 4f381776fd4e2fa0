"""The page: one HTML file with everything in it, plotly.js included once, that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.figures.style import dark_colors
from harness.report.parts import Figure, Fold, Gallery, Heading, Part, Picture, Table, Text, flattened


class HtmlView:
    """Renders parts with the macros of ``templates/parts.html``; Jinja2 escapes every text."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("harness.report.views"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._macros: Any = self._environment.get_template("parts.html").module
        self._numbers = count()
        self._pictures: dict[bytes, int] = {}  # an image that several pictures share stands in the page once

    def page(self, parts: Sequence[Part]) -> str:
        """The whole document."""
        title = next((part.text for part in parts if isinstance(part, Heading) and part.level == 1), "Report")
        sections = list(_sections(parts))
        loads_plotly = any(isinstance(part, Figure) for part in flattened(parts))
        template = self._environment.get_template("page.html")
        return template.render(
            title=title,
            lead=self.flow(sections[0]) if sections else "",
            sections=[self._section(part, i) for i, part in enumerate(sections[1:])],
            contents=[(i, one[0].text) for i, one in enumerate(sections[1:]) if isinstance(one[0], Heading)],
            dark=Markup(_safe_json(dark_colors())),
            plotly=Markup(_packed_plotly()) if loads_plotly else "",
            pictures=[(number, _data_uri(jpeg)) for jpeg, number in self._pictures.items()],
        )

    def flow(self, parts: Iterable[Part]) -> Markup:
        """Parts one after the other; figures that follow each other stand side by side."""
        out, beside = [], []
        for part in parts:
            if isinstance(part, Figure) and not part.wide:
                beside.append(part.accept(self))
                continue
            out += [self._macros.grid(beside)] if beside else []
            beside = []
            out.append(part.accept(self))
        out += [self._macros.grid(beside)] if beside else []
        return Markup("\n").join(out)

    def heading(self, part: Heading) -> Markup:
        """h1 to h4."""
        return Markup(self._macros.heading(part))

    def text(self, part: Text) -> Markup:
        """A list of answers, paragraphs of other kinds, or code."""
        return Markup(self._macros.text(part))

    def table(self, part: Table) -> Markup:
        """Sortable by its column heads, which are buttons; a wide table scrolls inside its own frame."""
        return Markup(self._macros.table(part))

    def figure(self, part: Figure) -> Markup:
        """A frame with the figure's data; the page's script draws it when it comes into view."""
        plot = part.plot
        data = Markup(_safe_json(json.loads(plot.to_json())))
        return Markup(self._macros.figure(part, next(self._numbers), data, int(plot.layout.height or 300)))

    def gallery(self, part: Gallery) -> Markup:
        """Pictures as SVG: the image, and boxes that tell what they are."""
        rows = [(told, [(picture, self._picture(picture)) for picture in pictures]) for told, pictures in part.rows]
        return Markup(self._macros.gallery(part, rows))

    def fold(self, part: Fold) -> Markup:
        """Details that a click opens."""
        return Markup(self._macros.fold(part, self.flow(part.parts)))

    def _picture(self, picture: Picture) -> int:
        return self._pictures.setdefault(picture.jpeg, len(self._pictures))

    def _section(self, parts: Sequence[Part], number: int) -> Markup:
        """A section; the methods that its figures share can be toggled all at once, below the answer."""
        methods: dict[str, str] = {}
        for part in flattened(parts):
            methods |= dict(part.methods) if isinstance(part, Figure) else {}
        own = methods if len(methods) > 1 else {}
        head = next((i for i, part in enumerate(parts) if isinstance(part, Heading) and part.level == 3), len(parts))
        return Markup(self._macros.section(number, self.flow(parts[:head]), own, self.flow(parts[head:])))


def render_page(parts: Sequence[Part]) -> str:
    """The HTML document of a report."""
    return HtmlView().page(parts)


def _sections(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """What stands before the first heading of level 2, then one list per such heading; level 1 is the page's title."""
    own: list[Part] = []
    for part in parts:
        if isinstance(part, Heading) and part.level == 2:
            yield own
            own = []
        if not (isinstance(part, Heading) and part.level == 1):
            own.append(part)
    yield own


def _safe_json(value: Any) -> str:
    """JSON that may stand inside a script element: no text in it can close the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed_plotly() -> str:
    """plotly.js of the installed plotly, compressed: 1.9 instead of 4.8 MB. Browsers since 2023 unpack it."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode("ascii")


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
