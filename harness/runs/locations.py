"""Where the harness's own configuration files are."""

from __future__ import annotations

from pathlib import Path


def folder(name: str) -> Path:
    """``conf`` or ``sweeps``: beside the package in a checkout, inside it in an installed wheel.

    Raises:
        FileNotFoundError: neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"no folder {name!r} beside or inside {package}: the installation is incomplete")
