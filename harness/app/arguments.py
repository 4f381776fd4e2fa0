"""What a user types, rewritten as Hydra wants it: short group names, plain paths, ``-q`` and ``-v``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.runs.locations import folder
from harness.runs.presets import NONE, PRESETS

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
# What Hydra reads as null, a boolean or a number where the name of an option stands: alone, in a list, in a function.
_NOT_A_NAME = re.compile(
    r"(?<![^,(\s])(null|true|false|nan|[-+]?(?:inf|\d[\d_]*(?:\.[\d_]*)?(?:e[-+]?\d+)?))(?![^,)\s])", re.IGNORECASE
)
_QUOTED = re.compile(r"""(["']).*\1$""")
_MULTIRUN = ("-m", "--multirun")
_TAKES_VALUE = re.compile(r"(--config-(name|path|dir)|-c[npd]|--package|-p|--experimental-rerun)$")  # in the next word
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


def rewritten(arguments: Sequence[str], own: Path | None = None) -> list[str]:
    """Command-line arguments as Hydra's parser takes them.

    ``arm=x`` becomes ``experiment/arm=x`` and ``arm=null`` chooses no arm; ``data.root=/a b/ü`` gets the quotes that
    Hydra's grammar wants; ``-q`` and ``-v`` become the overrides that they stand for, before all others so that these
    win. Flags come first, because Hydra's parser takes no override before a flag and another one behind it.

    Args:
        arguments: of the command line.
        own: a folder of the user's own options, as of ``--config-dir``.
    """
    verbosity = [override for argument in arguments for override in VERBOSITY.get(argument, ())]
    sweeping = any(argument in _MULTIRUN for argument in arguments)
    flags: list[str] = []
    overrides: list[str] = []
    for argument, before in zip(arguments, ["", *arguments], strict=False):
        if argument not in VERBOSITY:
            is_override = argument.startswith("~") or ("=" in argument and not argument.startswith("-"))
            kind = overrides if is_override and not _TAKES_VALUE.match(before) else flags
            kind.append(_override(argument, sweeping, own))
    return [*flags, *verbosity, *overrides]


def _override(argument: str, sweeping: bool, own: Path | None) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.startswith("-"):
        return argument
    key = SHORT_NAMES.get(key, key)
    if _is_group(key, own):
        return f"{key}={option_names(key, value)}"
    return f"{key}={_text(value, sweeping) if _TEXTS.match(key) else value}"


def option_names(group: str, value: str) -> str:
    """The value of a group as names of options: ``null`` leaves a preset out, and a number is a name like others.

    >>> option_names("recipe", "null,ohem"), option_names("sampler", "choice(3,ohem)")
    ('none,ohem', "choice('3',ohem)")
    """
    if value.startswith(("[", "{")):  # no single option
        return value
    left_out = {"null": NONE} if group in PRESETS else {}
    return _NOT_A_NAME.sub(lambda found: left_out.get(found[1].lower(), f"'{found[1]}'"), value)


def _is_group(key: str, own: Path | None) -> bool:
    name = key.lstrip("+~").partition("@")[0]
    places = [place for place in (folder("conf"), own) if place is not None]
    return name.startswith("hydra/") or any(name and (place / name).is_dir() for place in places)


def _text(value: str, sweeping: bool) -> str:
    if _PLAIN.match(value) or _QUOTED.match(value) or "${" in value:
        return value
    if sweeping and ("," in value or _SWEPT.match(value)):
        return value
    # In Hydra's quotes a backslash stands for itself except before a quote and at the end.
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: m[1] * 2 + (f"\\{m[2]}" if m[2] else ""), value)
    return f'"{escaped}"'
