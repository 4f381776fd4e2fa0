"""``python -m harness.dashboard``: see :mod:`harness.tracking.dashboard`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training import interruptible


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    kept = "a workspace whose address it has not printed may be missing at W&B; the same command saves it"
    return interruptible.run("harness.tracking.dashboard", arguments, "harness.dashboard", kept)


if __name__ == "__main__":
    raise SystemExit(main())
