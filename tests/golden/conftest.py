"""Lists every golden item with its number of cases at the end of a run."""

from __future__ import annotations

from collections import Counter

import pytest


def _items(reports: list[pytest.TestReport]) -> Counter[str]:
    prefix = "test_golden.py::test_case["
    names = [report.nodeid.split(prefix, 1)[1].removesuffix("]") for report in reports if prefix in report.nodeid]
    return Counter(name.split("/", 1)[0] for name in names)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed = _items(terminalreporter.stats.get("passed", []))
    failed = _items([*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])])
    total = passed + failed
    if not total:
        return
    terminalreporter.section("golden items")
    width = max(map(len, total))
    for item in sorted(total):
        fault = f"  {failed[item]} FAILED" if failed[item] else ""
        terminalreporter.write_line(f"{item:{width}}  {total[item]:3} cases{fault}")
    terminalreporter.write_line(f"{len(total)} items, {sum(total.values())} cases, {sum(failed.values())} failed")
