"""A hash that names a data set by its content, wherever it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from harness.data.dataset import DetectionDataset


def fingerprint(splits: Sequence[DetectionDataset]) -> str:
    """Hash (32 hex digits) of everything that is trained on: class names and, of each split, in order, image names,
    sizes, annotations and the digests of the image files.

    The digest is of all bytes of a file with ``data.check=full``, of its ends and size with ``headers``, of its size
    with ``none`` (:func:`harness.data.probing.probe`). Paths do not enter: a data set that is moved or copied stays the
    same one.
    """
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        notes = split.annotations
        names = json.dumps([split.classes, split.category_ids, notes.files, notes.source_ids], separators=(",", ":"))
        digest.update(f"{len(split)}:{len(names)}:{names}".encode())
        held: list[npt.NDArray[Any] | None] = [notes.sizes, notes.offsets, notes.boxes, notes.labels, notes.ignore]
        held += [notes.difficult, notes.areas, notes.digests, notes.keypoints]
        if notes.outlines is not None:
            held += [notes.outlines.data, notes.outlines.offsets]
        if notes.federated is not None:
            known = notes.federated
            digest.update(json.dumps(known.frequencies).encode())
            held += [known.negative, known.negative_offsets, known.not_exhaustive, known.not_exhaustive_offsets]
        for column in held:
            if column is not None:
                digest.update(column.tobytes())
    return digest.hexdigest()
