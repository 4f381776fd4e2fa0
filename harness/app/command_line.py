"""``python -m harness``: answers ``--help`` and ``--version`` at once, and hands everything else to Hydra."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness import __version__
from harness.app.arguments import rewritten
from harness.core.output import make_output_safe
from harness.runs import launched

_HELP, _VERSION, _FOLDER = ("--help", "-h"), ("--version",), ("--config-dir", "-cd")


def main() -> None:
    """The command line."""
    make_output_safe()
    launched.silence_followers()
    try:
        _run(sys.argv[1:])
    except OSError as error:  # of the output: a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left would be a traceback at the end
        print(f"harness: output: {error.strerror}", file=sys.stderr)
        raise SystemExit(1) from None


def _run(arguments: list[str]) -> None:
    if any(argument in _HELP for argument in arguments):
        from harness.app.help_page import page

        print(page(_own_options(arguments)), end="", flush=True)
        return
    if any(argument in _VERSION for argument in arguments):
        print(f"harness {__version__}")
        return
    from harness.app.entry import start  # Hydra takes half a second to import

    own = _own_options(arguments)
    start(rewritten(arguments, own), own)


def _own_options(arguments: list[str]) -> Path | None:
    """The folder that ``--config-dir`` names."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, inside = flag.partition("=")
        if name in _FOLDER:
            return Path(inside if equals else value)
    return None


if __name__ == "__main__":
    main()
