"""``python -m harness.inspect.gallery FOLDER``: see :mod:`harness.inspect.method_pictures`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.training import interruptible


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    kept = "the pictures that it has named are whole; the same command uses the short runs that have finished"
    return interruptible.run("harness.inspect.method_pictures", arguments, "harness.inspect.gallery", kept)


if __name__ == "__main__":
    raise SystemExit(main())
