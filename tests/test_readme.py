"""README says what is there, and its library example runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import PAGES, ROOT, filled, method_pages

README = PAGES[0]


@pytest.mark.parametrize(("page", "marks"), list(zip(PAGES, (("options", "parts"), ("methods",)), strict=True)))
def test_the_generated_parts_are_up_to_date(page: Path, marks: tuple[str, ...]) -> None:
    text = page.read_text()
    for mark in marks:
        assert text.count(f"<!-- {mark} -->\n") == text.count(f"\n<!-- /{mark} -->") == 1
    assert filled(text) == text, "run `python -m tests.readme`"


def test_the_pages_of_methods_are_up_to_date() -> None:
    for page, text in method_pages().items():
        assert page.read_text() == text, f"{page}: run `python -m tests.readme`"


def test_the_library_example_trains(tmp_path: Path) -> None:
    found = re.search(r"<!-- library -->\n```python\n(.*?)```", README.read_text(), flags=re.S)
    assert found
    code = found.group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 14
    assert "hydra" not in code
    assert "wandb" not in code
    checks = (
        "\nimport sys\nassert not {'hydra', 'wandb', 'pandas'} & set(sys.modules)"
        "\nassert all(torch.isfinite(p).all() for p in model.parameters())"
        "\nprint(float(loss))\n"
    )
    script = tmp_path / "train.py"
    script.write_text(code + checks)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0
