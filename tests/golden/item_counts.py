"""Lists every golden item with its number of cases at the end of a run; used by the ``conftest.py`` of each set."""

from __future__ import annotations

from collections import Counter

import pytest


def write_summary(terminalreporter: pytest.TerminalReporter, runner: str, title: str) -> None:
    """Writes one line per item whose cases ran in the file ``runner``, and their total; nothing where none ran."""
    passed = _items(runner, terminalreporter.stats.get("passed", []))
    failed = _items(runner, [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])])
    total = passed + failed
    if not total:
        return
    terminalreporter.section(title)
    width = max(map(len, total))
    for item in sorted(total):
        fault = f"  {failed[item]} FAILED" if failed[item] else ""
        terminalreporter.write_line(f"{item:{width}}  {total[item]:3} cases{fault}")
    terminalreporter.write_line(f"{len(total)} items, {sum(total.values())} cases, {sum(failed.values())} failed")


def _items(runner: str, reports: list[pytest.TestReport]) -> Counter[str]:
    prefix = f"{runner}::test_case["
    names = [report.nodeid.split(prefix, 1)[1].removesuffix("]") for report in reports if prefix in report.nodeid]
    return Counter(name.split("/", 1)[0] for name in names)
