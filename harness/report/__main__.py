"""``python -m harness.report``: see :mod:`harness.report.command`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training import interruptible


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    kept = "the runs are as they were, and each file of the report is the new one or the old one as a whole"
    return interruptible.run("harness.report.command", arguments, "harness.report", kept)


if __name__ == "__main__":
    raise SystemExit(main())
