"""What a data set is, apart from where it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from harness.data.dataset import DetectionDataset


def fingerprint(splits: Sequence[DetectionDataset]) -> str:
    """Hash (32 hex digits) of class names and of each split's image names, sizes and annotations, in their order.

    Paths do not enter: a data set that is moved or copied stays the same one.
    """
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        notes = split.annotations
        names = json.dumps([split.classes, split.category_ids, notes.files, notes.source_ids], separators=(",", ":"))
        digest.update(f"{len(split)}:{len(names)}:{names}".encode())
        for column in (
            notes.sizes, notes.offsets, notes.boxes, notes.labels, notes.ignore, notes.difficult, notes.areas,
        ):  # fmt: skip
            digest.update(column.tobytes())
    return digest.hexdigest()
