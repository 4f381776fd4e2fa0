"""``python -m harness.evaluate``: see :mod:`harness.evaluation.command`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training import interruptible


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    kept = "it writes no file, and the same command begins anew"
    return interruptible.run("harness.evaluation.command", arguments, "harness.evaluate", kept)


if __name__ == "__main__":
    raise SystemExit(main())
