"""Reports of what runs left on disk: `load_runs` for one's own analysis, ``python -m harness.report`` for the page."""

from harness.report.folders import LeftOut, ReportError
from harness.report.frame import load_runs

__all__ = ["LeftOut", "ReportError", "load_runs"]
