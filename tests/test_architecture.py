"""The floors: imports only go down, and some names belong to one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"

FLOORS = {
    "limits": 0,
    "types": 0,
    "records": 0,
    "config": 0,
    "boxes": 1,
    "chunking": 1,
    "coders": 1,
    "run_folder": 1,
    "assigners": 2,
    "samplers": 2,
    "losses": 2,
    "heads": 3,
    "criterion": 3,
    "compatibility": 3,
    "detectors": 4,
    "data": 4,
    "analysis": 4,
    "environment": 5,
    "pieces": 5,
    "training": 5,
    "tracking": 5,
    "training_run": 6,
    "runner": 6,
    "job": 7,
    "sweep": 7,
    "check_table": 7,
    "__main__": 8,
}
ASIDE = {"report", "inspect", "evaluate", "dashboard"}  # they read what runs left, or draw what a run would see
SIBLINGS = {"assigners", "samplers", "losses"}  # floor 2: they do not see each other

FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The part of the package that a file belongs to: its folder, or its own name at the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> list[tuple[str, int]]:
    """Every imported module with its line, wherever in the file it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def harness_units(path: Path) -> list[tuple[str, int]]:
    """The parts of the package that a file imports."""
    units = []
    for module, line in imports(path):
        parts = module.split(".")
        if parts[0] == "harness" and len(parts) > 1 and parts[1] != "__version__":
            units.append((parts[1], line))
    return units


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    own = unit(path)
    if own == "__init__" or own in ASIDE:
        return
    assert own in FLOORS, f"{path}: give {own!r} a floor"
    for other, line in harness_units(path):
        if other == own or (own == "sweep" and other == "report"):
            continue
        assert other not in ASIDE, f"{path}:{line}: {own} imports {other}, which stands aside"
        assert FLOORS[other] <= FLOORS[own], f"{path}:{line}: floor {FLOORS[own]} imports {other}, {FLOORS[other]}"
        assert not (own in SIBLINGS and other in SIBLINGS), f"{path}:{line}: {own} sees its sibling {other}"


OWNERS = {
    "wandb": {"tracking", "dashboard"},
    "wandb_workspaces": {"dashboard"},
    "pandas": {"report"},
    "torchvision.models": {"detectors"},
    "hydra": {"__main__", "sweep", "pieces", "config", "inspect"},
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
