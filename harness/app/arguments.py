"""What a user types, rewritten as Hydra wants it: short group names, plain paths, ``-q`` and ``-v``."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHORT_NAMES = {"arm": "experiment/arm", "rung": "experiment/rung"}  # what may be typed for a nested group
VERBOSITY = {
    "-q": ("hydra.job_logging.root.level=ERROR", "run.progress=off"),
    "--quiet": ("hydra.job_logging.root.level=ERROR", "run.progress=off"),
    "-v": ("hydra.job_logging.root.level=DEBUG",),
    "--verbose": ("hydra.job_logging.root.level=DEBUG",),
}
# Keys whose values are paths or names: what Hydra's grammar would read as a list, a choice or an error is text there.
_TEXTS = re.compile(
    r"\+{0,2}(name|run\.root|hydra\.(sweep|run)\.dir|data\.(root|cache_dir|\w+_images|\w+_annotations|\w+_split)"
    r"|detector\.weights|tracker\.(project|entity|group))$"
)
_PLAIN = re.compile(r"[\w./:\\-]*$", re.ASCII)  # read by Hydra as it stands
_SWEPT = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)$|null$")
_QUOTED = re.compile(r"""(["']).*\1$""")
_MULTIRUN = ("-m", "--multirun")
_COMMANDS = {  # Hydra does one of them at a time
    "-m": "-m", "--multirun": "-m", "-r": "--run", "--run": "--run", "-c": "--cfg", "--cfg": "--cfg", "-i": "--info",
    "--info": "--info", "-sc": "--shell-completion", "--shell-completion": "--shell-completion",
}  # fmt: skip


def conflict(arguments: Sequence[str]) -> str | None:
    """One line where the arguments ask for several things at once, such as ``-m --cfg job``; else None."""
    asked = dict.fromkeys(
        _COMMANDS[flag] for argument in arguments if (flag := argument.partition("=")[0]) in _COMMANDS
    )
    return f"{' '.join(asked)}: only one of them at a time" if len(asked) > 1 else None


def rewritten(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments as Hydra's parser takes them.

    ``arm=x`` becomes ``experiment/arm=x``; ``data.root=/a b/ü`` gets the quotes that Hydra's grammar wants; ``-q`` and
    ``-v`` become the overrides that they stand for, before all others so that these win.
    """
    flags = [override for argument in arguments for override in VERBOSITY.get(argument, ())]
    sweeping = any(argument in _MULTIRUN for argument in arguments)
    overrides = [_override(argument, sweeping) for argument in arguments if argument not in VERBOSITY]
    return [*flags, *overrides]


def _override(argument: str, sweeping: bool) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.startswith("-"):
        return argument
    return f"{SHORT_NAMES.get(key, key)}={_text(value, sweeping) if _TEXTS.match(key) else value}"


def _text(value: str, sweeping: bool) -> str:
    if _PLAIN.match(value) or _QUOTED.match(value) or "${" in value:
        return value
    if sweeping and ("," in value or _SWEPT.match(value)):
        return value
    # In Hydra's quotes a backslash stands for itself except before a quote and at the end.
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: m[1] * 2 + (f"\\{m[2]}" if m[2] else ""), value)
    return f'"{escaped}"'
