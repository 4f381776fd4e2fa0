"""From checked records, one object each, to columns, one array for each property of all objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.data.dataset import Annotations, Federated
from harness.data.outlines import Outlines
from harness.data.probing import Probe
from harness.data.records import ImageRecord, ObjectRecord


def columns(
    images: Sequence[ImageRecord],
    classes: Sequence[str],
    probes: Sequence[Probe] | None = None,
    frequencies: Sequence[str] = (),
) -> Annotations:
    """Checked records as columns.

    Args:
        images: with encoded segmentations, as :func:`harness.data.checks.check_split` returns them.
        classes: in the order of their labels; the first one is 1.
        probes: of the image files, whose digests are kept.
        frequencies: LVIS's groups of the classes, empty for other data.
    """
    label = {name: number for number, name in enumerate(classes, start=1)}
    objects = [entry for image in images for entry in image.objects]
    boxes = np.array([entry.box for entry in objects], dtype=np.float64).reshape(-1, 4)
    box_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    own_areas = np.array([np.nan if entry.area is None else entry.area for entry in objects], dtype=np.float64)
    has_masks = any(entry.segmentation for entry in objects)
    digests = b"".join(probe.digest for probe in probes or ())
    return Annotations(
        offsets=np.cumsum([0] + [len(image.objects) for image in images], dtype=np.int64),
        boxes=boxes,
        labels=np.array([label[entry.name] for entry in objects], dtype=np.int64),
        ignore=np.array([entry.crowd or entry.difficult for entry in objects], dtype=bool),
        difficult=np.array([entry.difficult for entry in objects], dtype=bool),
        areas=np.where(np.isnan(own_areas), box_areas, own_areas),
        ids=tuple(image.id for image in images),
        source_ids=tuple(image.source_id for image in images),
        files=tuple(image.file for image in images),
        sizes=np.array([(image.width, image.height) for image in images], dtype=np.int64).reshape(-1, 2),
        outlines=Outlines.of([entry.segmentation or b"" for entry in objects]) if has_masks else None,
        keypoints=_keypoints(objects),
        digests=None if probes is None else np.frombuffer(digests, np.uint8).reshape(len(probes), -1),
        federated=_federated(images, label, frequencies) if frequencies else None,
    )


def _keypoints(objects: Sequence[ObjectRecord]) -> npt.NDArray[np.float64] | None:
    """(T, P, 3); objects without keypoints have none that is visible."""
    number = max((len(entry.keypoints or ()) for entry in objects), default=0)
    if not number:
        return None
    result = np.zeros((len(objects), number, 3))
    for row, entry in enumerate(objects):
        if entry.keypoints:
            result[row] = entry.keypoints
    return result


def _federated(images: Sequence[ImageRecord], label: dict[str, int], frequencies: Sequence[str]) -> Federated:
    negative = [[label[name] for name in image.negative if name in label] for image in images]
    open_ended = [[label[name] for name in image.not_exhaustive if name in label] for image in images]
    return Federated(tuple(frequencies), *_ragged(negative), *_ragged(open_ended))


def _ragged(lists: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All values one after the other, and the offset of each list."""
    offsets = np.cumsum([0] + [len(values) for values in lists], dtype=np.int64)
    return np.array([value for values in lists for value in values], dtype=np.int64), offsets
