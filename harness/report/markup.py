"""A table as HTML, Markdown, text or LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from tabulate import tabulate

from harness.report.tables import Cell, Table

_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "—": "--", "<": "$<$", ">": "$>$",
}  # fmt: skip


def html_table(table: Table, caption: str = "") -> str:
    """Sortable by its heads, which are buttons; wide ones scroll inside their own frame."""
    heads = "".join(f'<th scope="col"><button type="button">{escape(head)}</button></th>' for head in table.headers)
    body = "".join(
        f"<tr{' class=best' if i in table.bold else ''}>{''.join(_html(cell, j) for j, cell in enumerate(row))}</tr>"
        for i, row in enumerate(table.rows)
    )
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    label = escape(caption or table.headers[0], quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="sortable">{said}'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _html(cell: Cell, column: int) -> str:
    if column == 0:
        return f'<th scope="row">{escape(cell.text)}</th>'
    value = "" if cell.value is None else f' data-v="{cell.value:.6g}"'
    kind = "num" if cell.value is not None or cell.text in ("—", "") else ""
    text = f'<span class="verdict {cell.style}">{escape(cell.text)}</span>' if cell.style else escape(cell.text)
    return f'<td class="{kind}"{value}>{text}</td>' if kind else f"<td{value}>{text}</td>"


def markdown_table(table: Table) -> str:
    """GitHub's Markdown; the best row in bold."""
    rows = [
        [f"**{text}**" if i in table.bold and j == 0 else text for j, text in enumerate(_texts(row))]
        for i, row in enumerate(table.rows)
    ]
    return tabulate(rows, table.headers, tablefmt="github", disable_numparse=True)


def text_table(table: Table) -> str:
    """For a terminal."""
    rows = [[cell.text for cell in row] for row in table.rows]
    return tabulate(rows, table.headers, tablefmt="simple", disable_numparse=True)


def latex_table(table: Table, caption: str) -> str:
    """A booktabs table."""
    align = "l" + "r" * (len(table.headers) - 1)
    lines = [" & ".join(map(latex, table.headers)) + r" \\", r"\midrule"]
    for i, row in enumerate(table.rows):
        cells = [latex(cell.text) for cell in row]
        if i in table.bold:
            cells[0] = rf"\textbf{{{cells[0]}}}"
        lines.append(" & ".join(cells) + r" \\")
    body = "\n".join(f"    {line}" for line in [r"\toprule", *lines, r"\bottomrule"])
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{latex(caption)}}}\n  \\begin{{tabular}}{{{align}}}\n{body}\n"
        "  \\end{tabular}\n\\end{table}\n"
    )


def latex(text: str) -> str:
    """Text with LaTeX's own characters escaped."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found.group()], text)


def _texts(row: list[Cell]) -> list[str]:
    return [cell.text.replace("|", r"\|").replace("\n", " ") for cell in row]
