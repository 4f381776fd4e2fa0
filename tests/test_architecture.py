"""The floors: imports only go down, and some names belong to one place."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"

# From the bottom up. A module belongs to the longest prefix that names it.
FLOORS = {
    "core": 0,
    "core.limits": 0,
    "core.processes": 0,
    "core.noise": 0,
    "core.structures": 0,
    "runs": 1,
    "core.boxes": 1,
    "core.chunking": 1,
    "core.topk": 1,
    "core.matches": 1,
    "coders": 1,
    "assigners": 2,
    "samplers": 2,
    "losses": 2,
    "criterion": 3,
    "detectors": 4,
    "data": 4,
    "evaluation": 4,
    "statistics": 4,
    "telemetry": 4,
    "training": 5,
    "tracking": 5,
    "experiment": 6,
    "app": 7,
    "__main__": 8,
}
ASIDE = {
    "report",
    "inspect",
    "evaluate",
    "dashboard",
    "testing",
}  # they read runs, or serve users' code
SIBLINGS = {"assigners", "samplers", "losses"}  # floor 2: they do not see each other

FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The room that a file belongs to: its folder, or its own name at the top."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def floor_of(module: str) -> int | None:
    """The floor of a module, given without the leading ``harness.``: that of the longest prefix in ``FLOORS``."""
    parts = module.removesuffix(".__init__").split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((FLOORS[prefix] for prefix in prefixes if prefix in FLOORS), None)


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Every imported module with its line, wherever in the file it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def harness_imports(path: Path) -> list[tuple[str, int]]:
    """The modules of the package that a file imports, without the leading ``harness.``."""
    found = []
    for module, line in imports(path):
        parts = module.split(".")
        if parts[0] == "harness" and len(parts) > 1 and parts[1] != "__version__":
            found.append((".".join(parts[1:]), line))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    own = unit(path)
    if own == "__init__" or own in ASIDE:
        return
    module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    floor = floor_of(module)
    assert floor is not None, f"{path}: give {own!r} a floor"
    for other, line in harness_imports(path):
        room = other.split(".")[0]
        if module == "app.sweep" and room == "report":
            continue
        assert room not in ASIDE, f"{path}:{line}: {own} imports {other}, which stands aside"
        below = floor_of(other)
        assert below is not None, f"{path}:{line}: {other} has no floor"
        assert below <= floor, f"{path}:{line}: floor {floor} imports {other}, {below}"
        assert not (own != room and own in SIBLINGS and room in SIBLINGS), f"{path}:{line}: {own} sees {other}"


def top_level_imports(path: Path) -> set[str]:
    """Modules of the package that are imported when a file is, without the leading ``harness.``."""
    names = {".".join(p.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for p in FILES}
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness."):
            base = node.module.removeprefix("harness.")
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in names else base for alias in node.names}
    return found


def test_no_circle_of_imports() -> None:
    """Modules import each other without a circle, so that each can be read, and imported, on its own."""
    graph = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): top_level_imports(path)
        for path in FILES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for other in graph.get(module, ()):
            visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_no_circle_of_rooms() -> None:
    """Whole rooms do not need each other either, so that their order in the README is the order to read them in."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if path.parent != PACKAGE:
            graph.setdefault(unit(path), set()).update(other.split(".")[0] for other, _ in harness_imports(path))
    while leaves := {room for room, others in graph.items() if not (others - {room}) & graph.keys()}:
        for room in leaves:
            del graph[room]
    assert not graph, f"these rooms import each other: {graph}"


OWNERS = {
    "wandb": {"tracking"},
    "wandb_workspaces": {"tracking"},
    "pandas": {"report"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "torchvision.models": {"detectors"},
    "hydra": {"app", "experiment", "runs", "inspect"},
}


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_its_place(library: str) -> None:
    owners = OWNERS[library]
    for path in FILES:
        for module, line in imports(path):
            if module == library or module.startswith(f"{library}."):
                assert unit(path) in owners, f"{path}:{line}: only {sorted(owners)} may import {library}"


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "misc", "manager"])
def test_no_attic(word: str) -> None:
    assert not [p for p in PACKAGE.rglob("*") if word in p.stem.split("_")]


ROOMS_OF_METHODS = ("assigners", "coders", "losses", "losses.classification", "losses.regression", "samplers")


@pytest.mark.parametrize("room", ROOMS_OF_METHODS)
def test_a_room_of_methods_has_what_its_face_lists(room: str) -> None:
    face = import_module(f"harness.{room}")
    assert [name for name in face.__all__ if not hasattr(face, name)] == []


def test_every_loss_is_on_the_face_of_the_losses() -> None:
    whole, *parts = (import_module(f"harness.{room}").__all__ for room in ROOMS_OF_METHODS[2:5])
    assert set().union(*parts) <= set(whole)


@pytest.mark.parametrize("room", ["assigners", "coders", "criterion", "losses", "samplers"])
def test_float64_is_taken_where_devices_without_it_are_known(room: str) -> None:
    """MPS refuses float64; :func:`harness.core.precision.double_precision` is float32 there."""
    wrong = re.compile(r"\.double\(\)|\bto\(torch\.float64|dtype=torch\.float64")
    for path in (PACKAGE / room).rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not wrong.search(line), f"{path}:{number}: take harness.core.precision.double_precision"
