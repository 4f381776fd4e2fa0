"""Writes the parts of README.md that follow from the code: the tables of methods and the file tree.

``python -m tests.readme`` rewrites them in place; a test compares.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
GROUPS = {
    "assigner": "Assigners: who is positive for which object",
    "sampler": "Samplers: which of them train",
    "loss/classification": "Losses of the classes",
    "loss/regression": "Losses of the boxes",
    "detector": "Detectors",
    "data": "Data",
    "augment": "Augmentation",
}


def said(path: Path) -> str:
    """The first comment of a YAML that is no header, or the first line of a module's docstring."""
    if path.suffix == ".yaml":
        lines = [line for line in path.read_text().splitlines() if line.startswith("# ") and not line.startswith("# @")]
        return lines[0].removeprefix("# ").rstrip(".")
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split()).rstrip(".")


def methods() -> str:
    """One table a group of ``conf/``, one line an option."""
    parts = []
    for group, title in GROUPS.items():
        rows = [
            f"| `{path.stem}` | {said(path).replace('|', '/')} |"
            for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
        ]
        parts.append("\n".join([f"**{title}** (`{group}=`)", "", "| option | what it does |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def tree() -> str:
    """One line a file of the package."""
    files = sorted((ROOT / "harness").rglob("*.py"), key=lambda p: (p.parent, p.name))
    lines = [f"{path.relative_to(ROOT)!s:<52} {said(path)}" for path in files if said(path)]
    return "```text\n" + "\n".join(lines) + "\n```"


def filled(text: str) -> str:
    """README's text with the generated parts between their marks."""
    for name, content in (("methods", methods()), ("tree", tree())):
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        assert re.search(pattern, text, flags=re.S), f"README.md has no marks for {name}"
        text = re.sub(
            pattern, lambda found, content=content: found.group(1) + content + found.group(2), text, flags=re.S
        )  # type: ignore[misc]
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
