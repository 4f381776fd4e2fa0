"""Every golden value of every item against the project's own methods.

``HARNESS_GOLDEN`` names the folder of ``.npz`` files, by default this one. Each file is an item; each ``check_*.py``
beside this file maps items to checks in its ``CHECKS``. What has no check fails: nothing is skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.case import case_names, load_case, stated_count, walk
from tests.golden.families import Check, checks

HERE = Path(__file__).parent
GOLDEN = Path(os.environ.get("HARNESS_GOLDEN") or HERE)


@pytest.fixture(scope="session")
def all_checks() -> dict[str, Check]:
    return checks("tests.golden", HERE)


@pytest.mark.parametrize(
    ("path", "name"), [pytest.param(path, name, id=f"{path.stem}/{name}") for path, name in walk(GOLDEN)]
)
def test_case(path: Path, name: str, all_checks: dict[str, Check]) -> None:
    case = load_case(path, name)
    assert case.key in all_checks, f"no check is mapped to {case.key!r}; known: {', '.join(sorted(all_checks))}"
    all_checks[case.key](case)


def test_folder_has_files() -> None:
    assert list(GOLDEN.glob("*.npz")), f"no golden file in {GOLDEN}"


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(GOLDEN.glob("*.npz"))])
def test_every_case_of_the_file_is_walked(path: Path) -> None:
    assert len(case_names(path)) == stated_count(path) > 0
