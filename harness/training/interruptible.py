"""Commands beside the training: a signal ends them in one line, also while their modules are still being imported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from harness.training.interrupt import StopSignals


def run(module: str, arguments: Sequence[str] | None, name: str, kept: str) -> int:
    """Imports ``module`` and calls its ``main(arguments)``.

    Args:
        module: with a function ``main`` that returns an exit code.
        arguments: of the command line; None: those of this process.
        name: of the command, for the line.
        kept: what a signal leaves behind, for the same line.

    Returns:
        The exit code: that of ``main``, or 128 and the number of the signal: 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        with StopSignals() as stop:
            with stop.deferred():  # torch aborts, with a hundred lines, where its import is broken off
                main = import_module(module).main
            code: int = main(arguments)
            return code
    except KeyboardInterrupt as request:
        asked = str(request) or "SIGINT"
        print(f"{name}: stopped by {asked}; {kept}", file=sys.stderr)
        return 128 + signal.Signals[asked].value
