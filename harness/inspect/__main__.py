"""``python -m harness.inspect``: see :mod:`harness.inspect.command`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training import interruptible


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    kept = "the sheets that it has named are whole, the others are not written"
    return interruptible.run("harness.inspect.command", arguments, "harness.inspect", kept)


if __name__ == "__main__":
    raise SystemExit(main())
