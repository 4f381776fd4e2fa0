"""Masks of objects, kept as COCO's run-length encoding: a few dozen bytes each instead of a byte per pixel.

A mask is a column of an image read column by column; the encoding lists the lengths of its runs of zeros and ones
(Lin et al. 2014; the mask API of cocoapi). hotcoco encodes and decodes, bit by bit as cocoapi does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import mask as rle_codec

VALID_SEGMENTATION = "polygons [[x, y, x, y, x, y, ...], ...] in px, or the RLE of a mask of the image's size"


class BadSegmentation(ValueError):
    """A segmentation that is neither polygons nor an RLE of the image's size; the message says what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The masks of T objects, one after the other in one array of bytes, so that they can be mapped from a file."""

    data: npt.NDArray[np.uint8]  # (B,) the compressed counts of all objects
    offsets: npt.NDArray[np.int64]  # (T + 1,) those of object t are data[offsets[t]:offsets[t + 1]]; none: no mask

    @classmethod
    def of(cls, encoded: Sequence[bytes]) -> Outlines:
        """From the compressed counts of each object, empty where it has no mask."""
        lengths = [len(counts) for counts in encoded]
        data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls(data, np.cumsum([0, *lengths], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(T,) which objects have a mask."""
        return np.diff(self.offsets) > 0

    def rle(self, row: int, height: int, width: int) -> dict[str, Any]:
        """The mask of one object as pycocotools and hotcoco take it."""
        counts = self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()
        return {"size": [height, width], "counts": counts}

    def masks(self, rows: slice, height: int, width: int) -> npt.NDArray[np.uint8]:
        """(n, height, width) 0 or 1: the masks of some objects of one image."""
        found = [self.rle(row, height, width) for row in range(rows.start, rows.stop)]
        if not found:
            return np.zeros((0, height, width), np.uint8)
        return np.ascontiguousarray(rle_codec.decode(found).transpose(2, 0, 1))

    def chosen(self, keep: npt.NDArray[np.bool_]) -> Outlines:
        """The masks of the objects in ``keep`` (T,)."""
        rows = np.flatnonzero(keep).tolist()
        return Outlines.of([self.data[self.offsets[row] : self.offsets[row + 1]].tobytes() for row in rows])


def encode(segmentation: Any, height: int, width: int) -> bytes:
    """The compressed counts of a COCO ``segmentation`` in an image of this size.

    Polygons of one object are united. Several of them, and both forms of RLE, count as in cocoapi's ``annToRLE``.

    Raises:
        BadSegmentation: it is none of that.
    """
    if isinstance(segmentation, dict):
        return _from_rle(segmentation, height, width)
    if not isinstance(segmentation, list) or not all(_is_polygon(polygon) for polygon in segmentation):
        raise BadSegmentation(f"segmentation {str(segmentation)[:40]}")
    polygons = [[float(value) for value in polygon] for polygon in segmentation]
    reach = 2 * max(height, width)  # encoding walks along the edges: a far vertex costs memory without end
    if any(abs(value) > reach for polygon in polygons for value in polygon):
        raise BadSegmentation(f"polygon that reaches far out of the image of {width} x {height} px")
    counts: bytes = rle_codec.merge(rle_codec.frPyObjects(polygons, height, width))["counts"]
    return counts


def encode_mask(mask: npt.NDArray[np.bool_]) -> bytes:
    """The compressed counts of a mask (H, W)."""
    counts: bytes = rle_codec.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return counts


def polygon_box(segmentation: Any) -> tuple[float, float, float, float] | None:
    """(x1, y1, x2, y2) around the polygons of a COCO ``segmentation``; None where it has none."""
    if not isinstance(segmentation, list) or not segmentation or not all(map(_is_polygon, segmentation)):
        return None
    xs = [float(value) for polygon in segmentation for value in polygon[::2]]
    ys = [float(value) for polygon in segmentation for value in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _from_rle(segmentation: dict[str, Any], height: int, width: int) -> bytes:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise BadSegmentation(f"RLE of size {size} in an image of [{height}, {width}]")
    if isinstance(counts, list) and all(isinstance(run, int) and run >= 0 for run in counts):
        if sum(counts) != height * width:
            raise BadSegmentation(f"RLE whose runs cover {sum(counts)} of {height * width} pixels")
        encoded: bytes = rle_codec.frPyObjects({"size": size, "counts": counts}, height, width)["counts"]
        return encoded
    if isinstance(counts, str) and counts.isascii():
        compressed = counts.encode()
        if _pixels(compressed) != height * width:
            raise BadSegmentation(f"RLE that does not cover the {height * width} pixels of the image")
        return compressed
    raise BadSegmentation("RLE without counts")


def _pixels(counts: bytes) -> int:
    """How many pixels the runs of compressed counts cover; -1 where they are damaged.

    Six bits a character, five of a number's and one that says whether it goes on; from the fourth run on, a number is
    the difference to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = character - 48
        if not 0 <= bits < 64:
            return -1
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        run = value + (runs[-2] if len(runs) > 2 else 0)
        if run < 0:
            return -1
        runs.append(run)
        value = shift = 0
    return sum(runs) if shift == 0 else -1


def _is_polygon(polygon: Any) -> bool:
    return (
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in polygon)
    )
