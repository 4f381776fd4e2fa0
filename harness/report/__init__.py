"""Reports of what runs left on disk: `load_runs` for one's own analysis, ``python -m harness.report`` for the page.

The names are imported when first used: the command can then answer a signal before pandas is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.folders import ReportError, SkippedFolder
    from harness.report.frame import load_runs

__all__ = ["ReportError", "SkippedFolder", "load_runs"]

_HOMES = {
    "ReportError": "harness.report.folders",
    "SkippedFolder": "harness.report.folders",
    "load_runs": "harness.report.frame",
}


def __getattr__(name: str) -> object:
    """Imports a public name from its module when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
