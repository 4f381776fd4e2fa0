"""Reading images: from image files, with those that fit kept decoded in memory, or from one array on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

# Closing bytes of the formats that have them; a file that lacks them near its end is decoded to know for sure.
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 512
# Pillow would clip these modes to white when it converts them to RGB.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")


class Images(Protocol):
    """Images by position, each a uint8 tensor (3, H, W) that belongs to the caller."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


class BadImage(Exception):
    """The image file is missing, truncated, or not an 8-bit image; the message says which."""


def read_image(path: Path) -> Tensor:
    """Decode an image file to RGB, uint8 (3, H, W). Orientation tags are not applied, as boxes refer to stored pixels.

    Raises:
        BadImage: it is missing or cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                raise BadImage(f"has {image.mode} pixels, not 8 bits a channel")
            pixels = np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise BadImage("image is missing") from None
    except UnidentifiedImageError:
        raise BadImage("not an image that can be read") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow's decoders raise
        raise BadImage(f"image is truncated or corrupt ({_first_line(error)})") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def probe_image(path: Path) -> tuple[int, int]:
    """(width, height) from the header, after a cheap look whether the file is whole.

    Raises:
        BadImage: it is missing, has another kind of pixels, or is not whole.
    """
    try:
        with Image.open(path) as image:
            size, mode, kind = image.size, image.mode, image.format
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        read_image(path)  # raises with the right words
        raise
    if mode in _DEEP_MODES or _END_MARKS.get(kind or "", b"") not in tail:
        read_image(path)
    return size


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class FileImages:
    """Image files; those in ``kept`` (position -> decoded) come from memory."""

    def __init__(self, paths: Sequence[Path], kept: dict[int, Tensor]) -> None:
        self.paths = [str(path) for path in paths]
        self.kept = kept

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        kept = self.kept.get(index)
        return read_image(Path(self.paths[index])) if kept is None else kept.clone()


class ArrayImages:
    """Images of one size in a .npy file, (N, 3, H, W) uint8, mapped into memory.

    The pages are the system's: processes that use the same file share them. Only the path is pickled, so a loader's
    worker maps the file again, whatever its start method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._array: np.ndarray = np.load(path, mmap_mode="r")

    def __reduce__(self) -> tuple[type[ArrayImages], tuple[Path]]:
        return type(self), (self.path,)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self._array[index]))
