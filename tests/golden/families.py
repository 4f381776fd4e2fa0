"""The checks of a golden set: what the ``CHECKS`` of every ``check_*.py`` in a package map items to."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from tests.golden.case import Case

Check = Callable[[Case], None]


def checks(package: str, folder: Path) -> dict[str, Check]:
    """The checks of all families in ``folder``, whose import name is ``package``; no item belongs to two."""
    found: dict[str, Check] = {}
    for family in sorted(path.stem for path in folder.glob("check_*.py")):
        for key, check in importlib.import_module(f"{package}.{family}").CHECKS.items():
            assert key not in found, f"{key} is checked by two families, one of them {family}"
            found[key] = check
    return found
