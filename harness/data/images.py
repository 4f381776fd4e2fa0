"""Reading images: from image files, with those that fit kept decoded in memory, or from one array on disk."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from harness.core.output import printable

Orientation = Literal["stored", "exif"]
# Pillow would clip these modes to white when it converts them to RGB.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
# What Pillow warns of (a large image, an EXIF tag that is cut off, transparency that RGB lacks) is no fault here.
warnings.filterwarnings("ignore", module=r"PIL\.")
DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, OverflowError, Image.DecompressionBombError)
EXIF_ORIENTATION = 0x0112  # the tag's number; values 5 to 8 exchange width and height


class Images(Protocol):
    """Images by position, each a uint8 tensor (3, H, W) that belongs to the caller."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


class BadImage(Exception):
    """The image file is missing, truncated, or not an 8-bit image; the message says which."""

    def __init__(self, message: str) -> None:
        # A loading worker hands an exception over as the text of its traceback, of which this message is the end.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def read_image(path: Path, orientation: Orientation = "stored") -> Tensor:
    """Decode an image file to RGB, uint8 (3, H, W).

    Args:
        path: of the file.
        orientation: ``stored`` takes the pixels as they lie in the file, ``exif`` turns them as the EXIF tag says.

    Raises:
        BadImage: it is missing or cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                raise BadImage(f"has {image.mode} pixels, not 8 bits a channel")
            upright = ImageOps.exif_transpose(image) if orientation == "exif" else image
            pixels = np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    except FileNotFoundError:
        raise BadImage(missing(path)) from None
    except UnidentifiedImageError:
        raise BadImage("not an image that can be read") from None
    except DECODER_ERRORS as error:
        raise BadImage(undecodable(error)) from None
    # A copy in this order takes NumPy half the time that it takes torch (benchmarks/decoding.py).
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))


def deep_mode(mode: str) -> bool:
    """Whether Pillow's ``mode`` has more than 8 bits a channel, which cannot be read without losing them."""
    return mode in _DEEP_MODES


def missing(path: Path) -> str:
    """That an image is missing, and where a link leads, or the file of the same name but for its suffix."""
    if path.is_symlink():
        return f"image is a link to {printable(os.readlink(path))}, which is missing"
    try:
        others = sorted(printable(other.name) for other in path.parent.iterdir() if other.stem == path.stem)
    except OSError:
        others = []
    return f"image is missing; {', '.join(others)} is there" if others else "image is missing"


def undecodable(error: Exception) -> str:
    """Why Pillow does not decode an image."""
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"image is too large: Pillow opens at most {most} pixels (cut it into tiles)"
    return f"image is truncated or corrupt ({first_line(error)})"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class FileImages:
    """Image files; those in ``kept`` (position -> decoded) come from memory."""

    def __init__(
        self, paths: Sequence[str], kept: Mapping[int, Tensor] | None = None, orientation: Orientation = "stored"
    ) -> None:
        self.paths = list(paths)
        self.kept = dict(kept or {})
        self.orientation: Orientation = orientation

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """The decoded image.

        Raises:
            BadImage: the file cannot be read (any more); the message names it.
        """
        kept = self.kept.get(index)
        if kept is not None:
            return kept.clone()
        try:
            return read_image(Path(self.paths[index]), self.orientation)
        except BadImage as error:
            raise BadImage(f"{self.paths[index]}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        """The kept images as one tensor: under spawn each tensor costs a loading process a file descriptor."""
        kept = list(self.kept.values())
        packed = torch.cat([image.flatten() for image in kept]) if kept else None
        shapes = {index: tuple(image.shape) for index, image in self.kept.items()}
        return {"paths": self.paths, "orientation": self.orientation, "shapes": shapes, "packed": packed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Views of the one tensor."""
        self.paths, self.orientation = state["paths"], state["orientation"]
        self.kept = {}
        if state["packed"] is not None:
            sizes = [math.prod(shape) for shape in state["shapes"].values()]
            parts = state["packed"].split(sizes)
            self.kept = {i: part.view(shape) for (i, shape), part in zip(state["shapes"].items(), parts, strict=True)}


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
