"""The documentation builds without a network and without a warning, and every picture it shows is there and small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs" / "gallery"
MOST_BYTES = 4_000_000


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    assert (tmp_path / "site" / "index.html").is_file()
    shown = (tmp_path / "site" / "methods" / "assigners.html").read_text()
    assert "ATSS" in shown


@pytest.mark.parametrize("group", ["assigner", "sampler"])
def test_every_method_has_its_picture(group: str) -> None:
    options = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
    pictures = {path.stem.removeprefix(f"{group}_") for path in GALLERY.glob(f"{group}_*.png")}
    assert pictures == options, "run `make gallery`"


def test_the_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in GALLERY.glob("*.png")) < MOST_BYTES
