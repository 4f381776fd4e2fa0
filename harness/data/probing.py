"""A look at every image file before training: its size, whether it is whole, and a digest of its bytes.

Threads share the work, since most of it is waiting for the disk, hashing and decoding, all outside of Python's lock.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from harness.data.images import DECODER_ERRORS, EXIF_ORIENTATION, deep_mode, first_line, missing, undecodable

Check = Literal["full", "headers", "none"]
DIGEST_BYTES = 16
# Closing bytes of the formats that have them. Of all others the check decodes the whole image once, to know for sure.
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 512
_ENDS = 4096  # bytes of each end of the file that `headers` hashes
_CHUNK = 32  # images a task of a thread: fewer tasks, less memory for them
_BAR_FROM = 2000  # images; fewer are checked before a bar could be read

Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Probe:
    """What the look at one image file found."""

    width: int = 0  # px, as stored; 0 where nothing was opened
    height: int = 0
    orientation: int = 1  # the EXIF tag, 1 to 8
    digest: bytes = bytes(DIGEST_BYTES)  # names what is trained on
    stamp: tuple[int, int] = (0, 0)  # size in bytes and time of the last change in ns: notices a change without reading
    fault: str = ""  # why the image cannot be used

    def upright_size(self) -> tuple[int, int]:
        """(width, height) after turning the image as its EXIF tag says."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def probe(path: str, check: Check) -> Probe:
    """Look at one image file.

    Args:
        path: of the file.
        check: ``full`` hashes all bytes, verifies PNG checksums, and decodes formats without an end mark; ``headers``
            reads header and end and hashes 4 KiB of either end with the file's size; ``none`` opens nothing and takes
            the file's size for its digest.
    """
    try:
        status = os.stat(path)
        stamp = (status.st_size, status.st_mtime_ns)
        if not S_ISREG(status.st_mode):  # a pipe would be waited for
            return Probe(stamp=stamp, fault="not a file")
        if check == "none":
            return Probe(digest=_digest(str(stamp[0]).encode()), stamp=stamp)
        with open(path, "rb") as file:
            if check == "full":
                data = file.read()
                return _look(io.BytesIO(data), _digest(data), stamp, data[-_TAIL:], thorough=True)
            ends = file.read(_ENDS)
            file.seek(max(0, stamp[0] - _ENDS))
            ends += file.read()
            file.seek(0)
            return _look(file, _digest(str(stamp[0]).encode() + ends), stamp, ends[-_TAIL:], thorough=False)
    except (FileNotFoundError, NotADirectoryError):
        return Probe(fault=missing(Path(path)))
    except OSError as error:
        return Probe(fault=f"image cannot be read ({error.strerror or first_line(error)})")


def _look(
    file: io.BytesIO | io.BufferedReader, digest: bytes, stamp: tuple[int, int], tail: bytes, *, thorough: bool
) -> Probe:
    """What the opened file says of itself; ``tail`` is its end."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            mode, kind = image.mode, image.format or ""
            # Pillow decodes a whole PNG to see whether EXIF data follow the pixels; writers put them before.
            tagged = kind != "PNG" or "exif" in image.info
            orientation = image.getexif().get(EXIF_ORIENTATION, 1) if tagged else 1
            if deep_mode(mode):
                return Probe(stamp=stamp, fault=f"has {mode} pixels, not 8 bits a channel")
            ended = kind in _END_MARKS and _END_MARKS[kind] in tail
            if not ended:
                image.convert("RGB")
            elif kind == "PNG" and thorough:
                image.verify()  # checksums of all chunks, without decoding
    except UnidentifiedImageError:
        return Probe(stamp=stamp, fault="not an image that can be read")
    except DECODER_ERRORS as error:
        return Probe(stamp=stamp, fault=undecodable(error))
    turned = orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
    return Probe(width, height, turned, digest, stamp)


def probe_all(paths: Sequence[str], check: Check) -> list[Probe]:
    """:func:`probe` of every path, in their order, by threads and, where it takes long, with a bar."""
    return list(in_threads(lambda path: probe(path, check), paths, "checking images"))


def stamps(paths: Iterable[str]) -> np.ndarray:
    """(N, 2) int64: size and time of the last change of each file, -1 where there is none."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
            found.append((status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((-1, -1))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def in_threads(work: Callable[[Item], Found], items: Sequence[Item], title: str) -> Iterator[Found]:
    """``work`` of every item in their order; a bar on a terminal where there are many."""
    shown = len(items) >= _BAR_FROM and sys.stderr is not None and sys.stderr.isatty()
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar,
        ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool,
    ):
        task = bar.add_task("", total=len(items))
        chunks = [items[first : first + _CHUNK] for first in range(0, len(items), _CHUNK)]
        for found in pool.map(lambda chunk: [work(item) for item in chunk], chunks):
            yield from found
            bar.advance(task, len(found))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
