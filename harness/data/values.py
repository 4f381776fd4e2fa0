"""How values of annotation files are read: one parser each for flags, ids, whole numbers, class names and image paths.

Tools write the same thing in many ways (``0``, ``"0"``, ``False``, ``Unspecified``). What is none of the known ways
is a :class:`BadValue`, which a source turns into a named problem; nothing is read by truthiness.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core import limits

FALSE_WORDS = frozenset({"", "0", "false", "no", "n", "unspecified"})
TRUE_WORDS = frozenset({"1", "true", "yes", "y"})
VALID_FLAGS = "0, false, no, empty or Unspecified; 1, true or yes"
ID_BITS = 63  # ids travel as int64 tensors
_WHOLE = re.compile(r"[+-]?\d{1,19}")


class BadValue(ValueError):
    """A value that cannot be read; the message says what it is and what would be valid."""


def flag(value: object) -> bool:
    """A truth value as annotation tools write it.

    Raises:
        BadValue: neither of the words for no nor one of those for yes.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in FALSE_WORDS or word in TRUE_WORDS:
            return word in TRUE_WORDS
        value = _number(word)
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    raise BadValue(f"flag is {_shown(value)}; valid: {VALID_FLAGS}")


def identifier(value: object) -> int | str:
    """An id: whole numbers, however they are written (7, 7.0, "7", "007"), are that number; other texts are themselves.

    Raises:
        BadValue: no id, or a number beyond 63 bits.
    """
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _WHOLE.fullmatch(value)):
        number = int(value)
    elif isinstance(value, str) and value:
        return value
    if number is None or abs(number) >= 2**ID_BITS:
        raise BadValue(f"id is {_shown(value)}; valid: a whole number of at most {ID_BITS} bits or a text")
    return number


def whole_number(value: object) -> int | None:
    """A count of pixels: an int, or a float or text of a whole number; None where it is missing.

    Raises:
        BadValue: anything else.
    """
    if value is None or value == "":
        return None
    number: Any = _number(value) if isinstance(value, str) else value
    real = isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 2**31
    if real and number == int(number):
        return int(number)
    raise BadValue(f"{_shown(value)} is not a whole number")


def class_names(classes: object) -> list[str] | None:
    """The choice of classes, ``data.classes``: a list of names in the order of their labels, or None for all.

    Raises:
        ValueError: a text, a mapping, an empty list, a missing or a repeated name.
    """
    if classes is None:
        return None
    valid = "a list of names, as in data.classes=[cat,dog], or null"
    if isinstance(classes, str):
        names = ",".join(part.strip() for part in classes.split(","))
        raise ValueError(f"classes={classes!r} must be a list: data.classes=[{names}]")
    usable = isinstance(classes, Sequence) and not isinstance(classes, Mapping) and len(classes) > 0
    limits.require(usable, "classes", classes, valid)
    assert isinstance(classes, Sequence)
    limits.require(
        all(isinstance(name, str | int) and not isinstance(name, bool) for name in classes),
        "classes", list(classes), valid,
    )  # fmt: skip
    names_given = [str(name) for name in classes]
    for position, name in enumerate(names_given):
        if name in names_given[:position]:
            raise ValueError(f"classes: {name!r} is listed twice; each class stands there once")
    return names_given


def folder(key: str, value: str) -> Path:
    """The folder that ``value`` names, ``~`` being the user's home.

    Raises:
        ValueError: it is no folder.
    """
    path = Path(value).expanduser()
    limits.require(path.is_dir(), key, str(path), "a folder")
    return path


def image_path(name: object, start: str, root: str, allow_outside: bool) -> str:
    """The path of an image that an annotation file names.

    Args:
        name: as written, relative to ``start`` or absolute; backslashes separate folders where no file has one in
            its name.
        start: folder that names start from.
        root: the data's folder, which no name may leave.
        allow_outside: it may (``data.allow_outside``).

    Raises:
        BadValue: no file name, a URL, or a path that leaves ``root``.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise BadValue(f"file name is {_shown(name)}; valid: the name of an image file")
    if "://" in name:
        raise BadValue(f"{name!r} is a URL; valid: the name of an image file")
    path = os.path.join(start, name)
    if "\\" in name and not os.path.exists(path):
        name = name.replace("\\", "/")
        path = os.path.join(start, name)
    if not allow_outside and (name.startswith("/") or ".." in name):
        inside = os.path.abspath(path)
        if os.path.commonpath([os.path.abspath(root), inside]) != os.path.abspath(root):
            raise BadValue(f"{name!r} leaves the data's folder; data.allow_outside=true reads it all the same")
    return path


def text_of(data: bytes) -> str:
    """The text of a small file that people write: UTF-8 or, with its mark at the beginning, UTF-16.

    Raises:
        BadValue: another encoding.
    """
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadValue(f"is neither UTF-8 nor UTF-16 text (byte {error.start})") from None


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
