"""Writes what README.md and METHODS.md say of the code: the options, the tables of methods, the parts of the package.

``python -m tests.readme`` rewrites them in place; a test compares.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.golden.mapping import items_by_class
from tests.test_architecture import ASIDE, FLOORS

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "METHODS.md")
DOCS = ROOT / "docs" / "methods"
GROUPS = {
    "recipe": "Recipes: what a paper trained, as a whole",
    "assigner": "Assigners: who is positive for which object",
    "sampler": "Samplers: which of them train",
    "loss/classification": "Losses of the classes",
    "loss/regression": "Losses of the boxes",
    "image_sampler": "Image samplers: how often each training image is seen",
    "detector": "Detectors",
    "data": "Data",
    "augment": "Augmentation",
}
PROVEN = ("assigner", "sampler", "loss/classification", "loss/regression", "image_sampler")  # with golden values
PLACES = {"augment": "augment@data.augment"}  # how a group is written on the command line, where not by its own name


def said(path: Path) -> str:
    """The first comment of a YAML that is no header, or the first line of a module's docstring."""
    if path.suffix == ".yaml":
        lines = [line for line in path.read_text().splitlines() if line.startswith("# ") and not line.startswith("# @")]
        return lines[0].removeprefix("# ").rstrip(".")
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split()).rstrip(".")


def options_of(group: str) -> list[Path]:
    """The YAML files of a group of ``conf/``."""
    return sorted((ROOT / "conf" / group).glob("*.yaml"))


def options() -> str:
    """One line per group of ``conf/`` with the names of its options."""
    lines = []
    for group, title in GROUPS.items():
        names = ", ".join(f"`{path.stem}`" for path in options_of(group))
        lines.append(f"- **{title.partition(':')[0]}** (`{PLACES.get(group, group)}=`): {names}")
    return "\n".join(lines)


def class_of(path: Path) -> str:
    """The class that an option of ``conf/`` builds; an option may be another one of its group with other values."""
    text = path.read_text()
    if found := re.search(r"^_target_: [\w.]+\.(\w+)$", text, re.M):
        return found[1]
    base = re.search(r"^  - (\w+)$", text, re.M)
    assert base, f"{path} has neither a _target_ nor another option to begin with"
    return class_of(path.with_name(f"{base[1]}.yaml"))


def methods() -> str:
    """One table per group of ``conf/``, one line per option; for methods, the golden items that check their class."""
    parts, items = [], items_by_class()
    for group, title in GROUPS.items():
        head, line = ["option", "what it does"], ["---", "---"]
        rows = [[f"`{path.stem}`", said(path).replace("|", "/")] for path in options_of(group)]
        if group in PROVEN:
            head, line = [*head, "golden values"], [*line, "---"]
            for path, row in zip(options_of(group), rows, strict=True):
                row.append(", ".join(sorted(items.get(class_of(path), {"none public; an oracle"}))))
        table = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
        table.insert(1, "|" + "|".join(line) + "|")
        parts.append("\n".join([f"## {title} (`{PLACES.get(group, group)}=`)", "", *table]))
    return "\n\n".join(parts)


def method_page(title: str, groups: dict[str, str]) -> str:
    """A page of the documentation: every option of ``groups`` with its picture, its equation and its source."""
    parts = [f"# {title}", "", "<!-- written by `python -m tests.readme` -->", ""]
    for group, heading in groups.items():
        if len(groups) > 1:
            parts += [f"## {heading}", ""]
        level = "###" if len(groups) > 1 else "##"
        for path in options_of(group):
            parts += [
                f"{level} `{group}={path.stem}` {{ #{group.replace('/', '-')}-{path.stem} }}",
                "",
                said(path) + ".",
                "",
            ]
            picture = ROOT / "docs" / "gallery" / f"{group}_{path.stem}.png"
            if picture.is_file():
                parts += [f"![What {path.stem} chooses on two images](../gallery/{picture.name}){{ .gallery }}", ""]
            target = re.search(r"^_target_: (\S+)$", path.read_text(), re.MULTILINE)
            if target:
                parts += [
                    f"::: {target[1]}",
                    "    options: {show_root_heading: false, show_root_toc_entry: false, members: []}",
                    "",
                ]
    return "\n".join(parts)


def method_pages() -> dict[Path, str]:
    """Path -> text of the generated pages of the documentation."""
    return {
        DOCS / "assigners.md": method_page("Assigners", {"assigner": ""}),
        DOCS / "samplers.md": method_page("Samplers", {"sampler": ""}),
        DOCS / "losses.md": method_page(
            "Losses", {"loss/classification": "Losses of the classes", "loss/regression": "Losses of the boxes"}
        ),
    }


def parts() -> str:
    """One line per room of the package, from the lowest floor up; then what stands aside."""
    package = ROOT / "harness"
    rooms = {path.parent.name: path for path in package.glob("*/__init__.py")}

    def floor(room: str) -> int:
        return max((number for name, number in FLOORS.items() if name.split(".")[0] == room), default=len(FLOORS))

    lines = []
    for room in sorted(rooms, key=lambda room: (room in ASIDE, floor(room), room)):
        told = re.sub(r"\. (Floor \d|Stands aside)\b.*", "", said(rooms[room]))
        lines.append(f"{f'harness/{room}/':<20} {told}")
    return "```text\n" + "\n".join(lines) + "\n```"


def filled(text: str) -> str:
    """A page's text with what is generated between its marks."""
    for name, write in (("options", options), ("methods", methods), ("parts", parts)):
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)"
        content = write()
        text = re.sub(
            pattern, lambda found, content=content: found.group(1) + content + found.group(2), text, flags=re.S
        )  # type: ignore[misc]
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
    for page, text in method_pages().items():
        page.write_text(text)
