"""Checksums of the files that a run reads back: damage is noticed and named, neither trained with nor reported.

A checksum is a BLAKE2b digest of 16 bytes, as 32 hex digits. It stands inside the file wherever the format has a place
for it, so that the file and its checksum cannot get apart:

* JSON objects end with the key ``checksum``, of all bytes before it (:func:`sealed`, :func:`unsealed`);
* ZIP archives (``.pt``, ``.npz``) carry it as the archive's comment, of all bytes before it (:func:`seal_zip`,
  :func:`check_zip`); torch and numpy read such files as any other;
* what has no such place (``detections.json``, a list; ``images.npy``) is named in the file that is written after it.
"""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path
from typing import IO

_SEAL = re.compile(rb',(?P<space>\s*)"checksum": "(?P<digest>[0-9a-f]{32})"\s*\}\s*\Z')
_END_OF_ZIP = b"PK\x05\x06"
_DIGEST_LENGTH = 32
_CHUNK = 2**20


class DamagedFileError(ValueError):
    """A file that does not hold what was written to it; the message names the file."""


def digest(data: bytes) -> str:
    """The checksum of ``data``."""
    return hashlib.blake2b(data, digest_size=_DIGEST_LENGTH // 2).hexdigest()


def file_digest(path: Path) -> str:
    """The checksum of a whole file."""
    with path.open("rb") as file:
        return _digest_of(file, path.stat().st_size)


def sealed(text: str) -> str:
    """The text of a JSON object that is not empty, with its checksum as last key."""
    body, newline = text.rstrip()[:-1].rstrip(), "\n" if "\n" in text.strip() else ""
    space = "\n  " if newline else " "
    return f'{body},{space}"checksum": "{digest(body.encode())}"{newline}}}'


def unsealed(data: bytes, path: Path) -> bytes:
    """The bytes of a JSON file without its checksum; those of a file that has none are returned as they are.

    Raises:
        DamagedFileError: the checksum is another one.
    """
    found = _SEAL.search(data, max(0, len(data) - 200))
    if found is None:
        return data
    body = data[: found.start()]
    if digest(body) != found["digest"].decode():
        raise DamagedFileError(f"{path} is damaged: its checksum is wrong")
    return body + b"}"


def seal_zip(file: IO[bytes]) -> None:
    """Adds the checksum to a ZIP archive without a comment, open for reading and writing."""
    size = file.seek(0, 2)
    file.seek(0)
    text = _digest_of(file, size - 2).encode()
    file.seek(size - 2)  # the last two bytes are the length of the comment, which follows them
    file.write(struct.pack("<H", len(text)) + text)


def check_zip(path: Path) -> None:
    """Raises DamagedFileError unless the archive is exactly what :func:`seal_zip` left; OSError where unreadable."""
    with path.open("rb") as file:
        size = path.stat().st_size
        end = size - _DIGEST_LENGTH - 22  # where the record that ends the archive begins
        if end < 0:
            raise DamagedFileError(f"{path} is damaged: it ends too early")
        file.seek(end)
        tail = file.read()
        marked = tail[:4] == _END_OF_ZIP and tail[20:22] == struct.pack("<H", _DIGEST_LENGTH)
        file.seek(0)
        if not marked or _digest_of(file, size - _DIGEST_LENGTH - 2) != tail[22:].decode("latin-1"):
            raise DamagedFileError(f"{path} is damaged: its checksum is missing or wrong")


def _digest_of(file: IO[bytes], size: int) -> str:
    """The checksum of the next ``size`` bytes."""
    running = hashlib.blake2b(digest_size=_DIGEST_LENGTH // 2)
    while size > 0 and (part := file.read(min(_CHUNK, size))):
        running.update(part)
        size -= len(part)
    return running.hexdigest()
