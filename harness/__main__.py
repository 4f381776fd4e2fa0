"""``python -m harness``: see :mod:`harness.app.command_line`."""

import sys

from harness.training.interrupt import StopSignals


def main() -> None:
    """The command line. The imports are inside, so that a signal that arrives while they run ends in one line, too."""
    try:
        with StopSignals():
            from harness.app import command_line

            command_line.main()
    except KeyboardInterrupt:
        print("harness: stopped; the same command continues where it was", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
