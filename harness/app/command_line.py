"""``python -m harness``: answers ``--help`` and ``--version`` at once, and hands everything else to Hydra."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

from harness import __version__
from harness.app.arguments import rewritten

_HELP, _VERSION, _FOLDER = ("--help", "-h"), ("--version",), ("--config-dir", "-cd")
_ASCII = {"±": "+/-", "—": "-", "–": "-", "×": "x", "…": "...", "→": "->", "≥": ">=", "≤": "<=", "·": "."}


def main() -> None:
    """The command line."""
    _make_output_safe()
    try:
        _run(sys.argv[1:])
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _run(arguments: list[str]) -> None:
    if any(argument in _HELP for argument in arguments):
        from harness.app.help_page import page

        print(page(_own_options(arguments)), end="", flush=True)
        return
    if any(argument in _VERSION for argument in arguments):
        print(f"harness {__version__}")
        return
    from harness.app.entry import start  # Hydra takes half a second to import

    start(rewritten(arguments))


def _own_options(arguments: list[str]) -> Path | None:
    """The folder that ``--config-dir`` names."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, inside = flag.partition("=")
        if name in _FOLDER:
            return Path(inside if equals else value)
    return None


def _make_output_safe() -> None:
    """Output never fails: not on a terminal without the signs of a table, not where a stream is closed."""
    codecs.register_error("harness_ascii", _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="harness_ascii")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


if __name__ == "__main__":
    main()
