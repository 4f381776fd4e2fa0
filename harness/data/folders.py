"""The files of a folder of data, as a person sees them: links are followed, hidden files are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.data.records import DataError


def files_below(folder: str) -> list[str]:
    """The files in ``folder`` and below it, relative to it with slashes, sorted, without hidden files and folders.

    Links to folders are followed, as those of data sets that share their images; one that leads back to a folder that
    it stands in is not.

    Raises:
        DataError: a folder may not be read, so that its files would be missing without a word.
    """
    return sorted(_walk(folder, "", frozenset()))


def _walk(folder: str, start: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as listed:
            entries = [entry for entry in listed if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; valid: folders that can be read") from None
    own = (status.st_dev, status.st_ino)
    if own in above:
        return
    for entry in entries:
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            yield from _walk(entry.path, f"{start}{entry.name}/", above | {own})
        else:
            yield f"{start}{entry.name}"
