"""Standard output and standard error that never fail: on any terminal, closed, or with a reader that has gone."""

from __future__ import annotations

import codecs
import io
import os
import sys

_ASCII = {"±": "+/-", "—": "-", "–": "-", "−": "-", "×": "x", "…": "...", "→": "->", "≥": ">=", "≤": "<=", "·": "."}
_ERRORS = "harness_ascii"  # how signs are written that the terminal does not have


def make_output_safe() -> None:
    """Replaces what would end a command in the middle of its work.

    A sign that the terminal's encoding lacks is written in ASCII. A stream that was closed (``2>&-``) is the null
    device; otherwise what is said would land in the next file that is opened. A reader that has gone, as of
    ``| head -1``, is ignored: a training goes on, and a table is not a traceback.
    """
    codecs.register_error(_ERRORS, _in_ascii)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif type(stream) is io.TextIOWrapper:  # not one that a test or a notebook has put there
            encoding, by_line, at_once = stream.encoding, stream.line_buffering, stream.write_through
            safe = _Unbroken(stream.detach(), encoding, _ERRORS, line_buffering=by_line, write_through=at_once)
            setattr(sys, name, safe)
            setattr(sys, f"__{name}__", safe)


def printable(text: str) -> str:
    """A foreign text on one line: line breaks, tabs and the escapes that move a terminal's cursor are spelled out.

    >>> printable("car\\ntruck")
    'car\\\\ntruck'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class _Unbroken(io.TextIOWrapper):
    """A text stream that goes to the null device once nobody reads it."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        super().flush()  # what was left


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
