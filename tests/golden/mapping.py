"""Which golden items check which classes, read from the sources of the checks: nothing is imported."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
SETS = (TESTS / "golden", TESTS / "golden2")


def items_by_class() -> dict[str, set[str]]:
    """Name of a class of the package -> the golden items whose checks use it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for folder in SETS:
        for path in sorted(folder.glob("check_*.py")):
            module = ast.parse(path.read_text())
            functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
            tables = {
                target.id: node.value
                for node in module.body
                for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
                if isinstance(target, ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign) and node.value
            }
            checks = tables["CHECKS"]
            pairs = list(_entries(checks))
            for item, value in pairs:
                for name in _names(value, functions, tables):
                    found[name].add(item)
    return found


def _entries(checks: ast.expr) -> list[tuple[str, ast.expr]]:
    if not isinstance(checks, ast.Dict):
        return []
    return [
        (key.value.split("/")[0], value)
        for key, value in zip(checks.keys, checks.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]


def _names(
    node: ast.AST,
    functions: dict[str, ast.FunctionDef],
    tables: dict[str, ast.expr],
    seen: frozenset[str] = frozenset(),
) -> set[str]:
    """All names in ``node`` and in the functions and tables of the module that it uses."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    for name in names - seen:
        further = functions.get(name) or tables.get(name)
        if further is not None and name != "CHECKS":
            names |= _names(further, functions, tables, seen | names)
    return names
