"""Every golden value of every item against the project's own methods.

``HARNESS_GOLDEN`` names the folder of ``.npz`` files, by default this one. Each file is an item; each ``check_*.py``
beside this file maps items to checks in its ``CHECKS``. What has no check fails: nothing is skipped.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.golden.case import Case, case_names, load_case, stated_count, walk

HERE = Path(__file__).parent
GOLDEN = Path(os.environ.get("HARNESS_GOLDEN") or HERE)
FAMILIES = sorted(path.stem for path in HERE.glob("check_*.py"))


def checks() -> dict[str, Callable[[Case], None]]:
    """The checks of all families; no item belongs to two."""
    found: dict[str, Callable[[Case], None]] = {}
    for family in FAMILIES:
        for key, check in importlib.import_module(f"tests.golden.{family}").CHECKS.items():
            assert key not in found, f"{key} is checked by two families, one of them {family}"
            found[key] = check
    return found


@pytest.fixture(scope="session")
def all_checks() -> dict[str, Callable[[Case], None]]:
    return checks()


@pytest.mark.parametrize(
    ("path", "name"), [pytest.param(path, name, id=f"{path.stem}/{name}") for path, name in walk(GOLDEN)]
)
def test_case(path: Path, name: str, all_checks: dict[str, Callable[[Case], None]]) -> None:
    case = load_case(path, name)
    assert case.key in all_checks, f"no check is mapped to {case.key!r}; known: {', '.join(sorted(all_checks))}"
    all_checks[case.key](case)


def test_folder_has_files() -> None:
    assert list(GOLDEN.glob("*.npz")), f"no golden file in {GOLDEN}"


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(GOLDEN.glob("*.npz"))])
def test_every_case_of_the_file_is_walked(path: Path) -> None:
    assert len(case_names(path)) == stated_count(path) > 0
