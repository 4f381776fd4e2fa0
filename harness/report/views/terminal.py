"""Plain text for a terminal: the answer and its tables, without details, figures and pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from harness.core.output import printable
from harness.report.parts import Figure, Fold, Gallery, Heading, Part, Table, Text

_WIDTH = 118
_MOST_ROWS = 40  # of a table; the page has all


class TerminalView:
    """Renders a part as lines, none where it does not belong on a terminal."""

    def heading(self, part: Heading) -> str:
        """Sections are underlined; the title is left out."""
        if part.level == 1:
            return ""
        return f"\n{part.text}\n{'=' * min(len(part.text), _WIDTH)}" if part.level == 2 else part.text

    def text(self, part: Text) -> str:
        """Wrapped lines; warnings and notes say so. Captions and command lines are on the page."""
        if part.kind in ("lead", "caption", "code"):
            return ""
        said = {"warning": "Warning: ", "note": "Note: "}.get(part.kind, "")
        return "\n".join(_wrapped(said + line) for line in part.lines)

    def table(self, part: Table) -> str:
        """The columns that fit."""
        shown = part.without_extra()
        rows = [[printable(" ".join(cell.text.split())) for cell in row] for row in shown.rows[:_MOST_ROWS]]
        align = [column.align for column in shown.columns]
        heads = [column.head for column in shown.columns]
        text = tabulate(rows, heads, tablefmt="simple", disable_numparse=True, colalign=align)
        more = len(shown.rows) - len(rows)
        return f"{text}\n... and {more} more" if more > 0 else text

    def figure(self, part: Figure) -> str:
        """Nothing."""
        return ""

    def gallery(self, part: Gallery) -> str:
        """Nothing."""
        return ""

    def fold(self, part: Fold) -> str:
        """Nothing: details are on the page."""
        return ""


def render_terminal(parts: Sequence[Part]) -> str:
    """The text of all parts."""
    view = TerminalView()
    return "\n\n".join(filter(None, (part.accept(view) for part in parts))).strip("\n")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
