"""Draws the rooms of the package and which room imports which, by Graphviz: the picture of ``docs/structure.md``.

``python -m tests.structure docs/structure/rooms.svg`` draws this checkout; a second argument names another checkout.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.test_architecture import ROOT, harness_imports

STYLE = """\
  rankdir=TB; bgcolor="white";
  node [shape=box, style="rounded,filled", fillcolor="#eef3f8", color="#4a5a70", fontname="Helvetica", fontsize=12];
  edge [color="#7a8aa0", arrowsize=0.6];"""


def graph(root: Path) -> str:
    """The rooms of the checkout ``root`` and the imports between them, in Graphviz's language."""
    package = root / "harness"
    modules, arrows = Counter[str](), Counter[tuple[str, str]]()
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        modules[room] += path.name != "__init__.py"
        for other, _ in harness_imports(path):
            target = other.split(".")[0]
            if target != room and ((package / target).is_dir() or (package / f"{target}.py").is_file()):
                arrows[room, target] += 1
    del modules["__init__"]
    rooms = [f'  "{room}" [label="{room}\\n{count} modules"];' for room, count in sorted(modules.items())]
    lines = [
        f'  "{room}" -> "{target}" [penwidth={min(4.0, 0.5 + count / 12):.2f}];'
        for (room, target), count in sorted(arrows.items())
        if room in modules
    ]
    return "\n".join(["digraph {", STYLE, *rooms, *lines, "}"])


def main() -> None:
    """Writes the picture."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python -m tests.structure FILE.svg [CHECKOUT]")
    root = Path(sys.argv[2]) if len(sys.argv) == 3 else ROOT
    try:
        subprocess.run(["dot", "-Tsvg", "-o", sys.argv[1]], input=graph(root), text=True, check=True)
    except FileNotFoundError:
        raise SystemExit("dot is missing: install Graphviz (graphviz.org)") from None


if __name__ == "__main__":
    main()
