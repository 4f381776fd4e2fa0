"""``metrics.jsonl``: one line per logged step, each with a checksum of its own."""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.runs.records import atomic_write

log = logging.getLogger("harness")

_SEAL = re.compile(r', "crc32": "([0-9a-f]{8})"\}$')


class MetricsLog:
    """The lines of a run. A resumed run cuts off what lies behind its checkpoint.

    Each line ends with the key ``crc32``, the CRC-32 of the text before it.

    Args:
        path: of the file.
        resume_at: the iteration of the checkpoint that the run continues from; rows behind it are cut off.
        evaluated_at: the last iteration whose evaluation the checkpoint knows of, likewise; None: ``resume_at``.
    """

    def __init__(self, path: Path, resume_at: int = 0, evaluated_at: int | None = None) -> None:
        last = {False: resume_at, True: resume_at if evaluated_at is None else evaluated_at}
        kept = [row for row in self.rows(path) if row["iteration"] <= last[_is_evaluation(row)]]
        with atomic_write(path) as file:
            file.writelines(_line(row) for row in kept)
        self._file = path.open("a", encoding="utf-8")

    @staticmethod
    def rows(path: Path) -> list[dict[str, Any]]:
        """All whole lines. A damaged one is left out with a warning; a last one that a kill cut in half, without."""
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        checked = has_checksums(lines)
        rows = []
        for number, line in enumerate(lines, start=1):
            row = row_of(line, checked) if line.strip() else None
            if row is not None:
                rows.append(row)
            elif line.strip() and number < len(lines):
                log.warning("%s, line %d is damaged and left out", path, number)
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one line and hands it to the operating system at once."""
        self._file.write(_line(row))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def has_checksums(lines: Sequence[str]) -> bool:
    """Whether any line has one: then a line without is damaged. Logs of older versions have none."""
    return any(_SEAL.search(line) for line in lines)


def row_of(line: str, checked: bool) -> dict[str, Any] | None:
    """The row that a line holds, without its checksum; ``None`` where the line is damaged.

    Args:
        line: of ``metrics.jsonl``.
        checked: whether it must have a checksum.
    """
    seal = _SEAL.search(line)
    if checked:
        if seal is None or _crc(line[: seal.start()]) != seal[1]:
            return None
        line = line[: seal.start()] + "}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and isinstance(row.get("iteration"), int)
    numbers = whole and all(value is None or isinstance(value, int | float) for value in row.values())
    return row if numbers else None


def _is_evaluation(row: Mapping[str, Any]) -> bool:
    return any(key.startswith("eval/") for key in row)


def _line(row: Mapping[str, Any]) -> str:
    text = json.dumps(row)[:-1]
    return f'{text}, "crc32": "{_crc(text)}"}}\n'


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
