"""One file of named arrays that is mapped into memory, with a checksum over all of it.

Layout: 8 bytes that name the format, 8 bytes with the length of the header, the header in JSON (names, types, shapes
and places of the arrays, and any JSON value beside them), then the arrays, each at a multiple of 64 bytes, and at the
end 16 bytes of blake2b over everything before. Reading copies nothing: processes that use one file share its pages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.runs.records import atomic_write

MAGIC = b"HCOLUMN1"
_ALIGNMENT = 64
_CHECKSUM = 16

Arrays = Mapping[str, npt.NDArray[Any]]


class DamagedFile(ValueError):
    """Not a file of this format, or one of which some bytes have changed."""


def write(path: Path, arrays: Arrays, beside: Any) -> None:
    """Write the arrays and one JSON value, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    places: dict[str, list[Any]] = {}
    end = 0
    for name, array in arrays.items():
        places[name] = [array.dtype.str, list(array.shape), end]
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    header = json.dumps({"arrays": places, "beside": beside}).encode()
    header += b" " * (-(len(header) + 16) % _ALIGNMENT)
    digest = hashlib.blake2b(digest_size=_CHECKSUM)
    with atomic_write(path, "wb") as file:

        def put(data: Any) -> None:
            file.write(data)
            digest.update(data)

        put(MAGIC)
        put(len(header).to_bytes(8, "little"))
        put(header)
        for array in arrays.values():
            put(np.ascontiguousarray(array).tobytes())
            put(bytes(-array.nbytes % _ALIGNMENT))
        file.write(digest.digest())


def read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Any]:
    """The arrays, mapped and read-only, and the JSON value beside them.

    Raises:
        FileNotFoundError: there is none.
        DamagedFile: it is damaged.
    """
    try:
        mapped = np.memmap(path, np.uint8, "r")
    except ValueError:  # an empty file cannot be mapped
        raise DamagedFile(f"{path} is empty") from None
    start = 16 + int.from_bytes(mapped[8:16].tobytes(), "little")
    if mapped[:8].tobytes() != MAGIC or start + _CHECKSUM > len(mapped):
        raise DamagedFile(f"{path} is no file of columns")
    if hashlib.blake2b(mapped[:-_CHECKSUM].data, digest_size=_CHECKSUM).digest() != mapped[-_CHECKSUM:].tobytes():
        raise DamagedFile(f"{path} has changed since it was written")
    header = json.loads(mapped[16:start].tobytes())
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, (kind, shape, place) in header["arrays"].items():
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        arrays[name] = mapped[start + place : start + place + size].view(dtype).reshape(shape)
    return arrays, header["beside"]
