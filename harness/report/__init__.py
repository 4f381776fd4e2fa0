"""Reports of what runs left on disk: `load_runs` for one's own analysis, ``python -m harness.report`` for the page."""

from harness.report.folders import ReportError, SkippedFolder
from harness.report.frame import load_runs

__all__ = ["ReportError", "SkippedFolder", "load_runs"]
