"""The tables of a report in LaTeX, for a paper (needs the package booktabs)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.report.parts import Figure, Fold, Gallery, Heading, Part, Table, Text

_SPECIAL: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "—": "--", "<": "$<$", ">": "$>$",
    "∞": r"$\infty$", "≈": r"$\approx$",
}  # fmt: skip


class LatexView:
    """Renders tables as floats whose caption is the section's heading and question; everything else is left out."""

    def __init__(self) -> None:
        self._caption: list[str] = []

    def heading(self, part: Heading) -> str:
        """Nothing; a section's heading goes into the next caption."""
        if part.level == 2:
            self._caption = [part.text]
        return ""

    def text(self, part: Text) -> str:
        """Nothing; the question goes into the next caption."""
        if part.kind == "question":
            self._caption += part.lines
        return ""

    def table(self, part: Table) -> str:
        """A booktabs table."""
        align = "".join("r" if column.align == "right" else "l" for column in part.columns)
        lines = [" & ".join(escape(column.head) for column in part.columns) + r" \\", r"\midrule"]
        for i, row in enumerate(part.rows):
            cells = [escape(cell.text) for cell in row]
            if i in part.bold:
                cells[0] = rf"\textbf{{{cells[0]}}}"
            lines.append(" & ".join(cells) + r" \\")
        body = "\n".join(f"    {line}" for line in [r"\toprule", *lines, r"\bottomrule"])
        caption = escape(". ".join(self._caption))
        return (
            "\\begin{table}\n  \\centering\n"
            f"  \\caption{{{caption}}}\n  \\begin{{tabular}}{{{align}}}\n{body}\n"
            "  \\end{tabular}\n\\end{table}"
        )

    def figure(self, part: Figure) -> str:
        """Nothing."""
        return ""

    def gallery(self, part: Gallery) -> str:
        """Nothing."""
        return ""

    def fold(self, part: Fold) -> str:
        """Nothing."""
        return ""


def render_latex(parts: Sequence[Part]) -> str:
    """All tables that are not folded."""
    view = LatexView()
    tables = [text for part in parts if (text := part.accept(view))]
    return "\n\n".join(tables) + "\n" if tables else "% no run has a result yet\n"


def escape(text: str) -> str:
    """Text with LaTeX's own characters escaped."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found.group()], text)
