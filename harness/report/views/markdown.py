"""Markdown as GitHub shows it: words and tables; figures and pictures are on the page."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from harness.core.output import printable
from harness.report.parts import Cell, Figure, Fold, Gallery, Heading, Part, Table, Text


class MarkdownView:
    """Renders a part as a block of Markdown, empty where there is nothing to show."""

    def heading(self, part: Heading) -> str:
        """A heading with number signs."""
        return f"{'#' * part.level} {part.text}"

    def text(self, part: Text) -> str:
        """Answers, warnings and notes as lists, code indented; nothing of what explains figures."""
        if part.kind == "caption":
            return ""
        if part.kind == "code":
            return "\n".join(f"    {line}" for line in part.lines)
        if part.kind == "question":
            return "\n\n".join(part.lines)
        said = {"warning": "Warning: ", "note": ""}.get(part.kind, "")
        return "\n".join(f"- {said}{line}" for line in part.lines)

    def table(self, part: Table) -> str:
        """A table; emphasized rows have a bold name."""
        rows = [
            [f"**{text}**" if i in part.bold and j == 0 else text for j, text in enumerate(_texts(row))]
            for i, row in enumerate(part.rows)
        ]
        heads = [_cell(column.head) for column in part.columns]
        align = [column.align for column in part.columns]
        return tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=align)

    def figure(self, part: Figure) -> str:
        """Nothing."""
        return ""

    def gallery(self, part: Gallery) -> str:
        """Nothing."""
        return ""

    def fold(self, part: Fold) -> str:
        """A heading and what can be shown of the details; nothing where they are all figures."""
        inside = render_markdown(part.parts).strip()
        return f"### {part.title}\n\n{inside}" if inside else ""


def render_markdown(parts: Sequence[Part]) -> str:
    """The blocks of all parts; a heading that nothing follows is left out."""
    view = MarkdownView()
    blocks = [(part, block) for part in parts if (block := part.accept(view))]
    following: list[Part | None] = [*(part for part, _ in blocks[1:]), None]
    kept = [
        block
        for (part, block), after in zip(blocks, following, strict=False)
        if not isinstance(part, Heading) or (after is not None and not _closes(part, after))
    ]
    return "\n\n".join(kept) + "\n"


def _closes(heading: Heading, after: Part) -> bool:
    """Whether the part after a heading is one of the same or a higher rank, so that the heading has no content."""
    return isinstance(after, Heading) and after.level <= heading.level


def _texts(row: Sequence[Cell]) -> list[str]:
    return [_cell(cell.text) for cell in row]


def _cell(text: str) -> str:
    """A text in one cell, and no HTML: names of classes and methods may be anything."""
    text = printable(" ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|")
