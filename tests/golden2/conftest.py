"""Lists the items of this set at the end of a run."""

from __future__ import annotations

import pytest

from tests.golden.item_counts import write_summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    write_summary(terminalreporter, "test_golden2.py", "golden items, second set")
