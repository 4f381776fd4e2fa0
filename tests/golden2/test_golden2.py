"""Every golden value of the second set (whole recipes and further pieces) against the project's own methods.

``HARNESS_GOLDEN2`` names the folder of ``.npz`` files, by default this one; files of the same items that were made
with other seeds and parameters must pass as well. Each file is an item; each ``check_*.py`` beside this file maps items
to checks in its ``CHECKS``. An item without a check fails: nothing is skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.golden.case import case_names, load_case, stated_count, walk
from tests.golden.families import Check, checks

HERE = Path(__file__).parent
GOLDEN = Path(os.environ.get("HARNESS_GOLDEN2") or HERE)


@pytest.fixture(scope="session")
def all_checks() -> dict[str, Check]:
    return checks("tests.golden2", HERE)


@pytest.mark.parametrize(
    ("path", "name"),
    [pytest.param(path, name, id=f"{path.stem}/{name}") for path, name in walk(GOLDEN)],
)
def test_case(path: Path, name: str, all_checks: dict[str, Check]) -> None:
    case = load_case(path, name)
    assert case.key in all_checks, f"no check is mapped to {case.key!r}; known: {', '.join(sorted(all_checks))}"
    all_checks[case.key](case)


def test_every_item_has_files(all_checks: dict[str, Check]) -> None:
    items = {path.stem for path in GOLDEN.glob("*.npz")}
    assert items == set(all_checks), "files and checks do not name the same items"


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(GOLDEN.glob("*.npz"))])
def test_every_case_of_the_file_is_walked(path: Path) -> None:
    assert len(case_names(path)) == stated_count(path) > 0
