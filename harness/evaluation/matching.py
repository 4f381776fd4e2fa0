"""COCO's greedy matching of detections to objects, for all images and IoU thresholds at once.

The loop runs over the *rank* of a detection in its image and category, not over images: detections of one rank
belong to different (image, category) groups and cannot compete, so numpy serves all of them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables
from harness.evaluation.coco_metrics import AREA_ALL

PAIRS_A_CHUNK = 2_000_000  # bounds the memory of the IoU computation to some 200 MB whatever the dataset


@dataclass(frozen=True)
class Pairs:
    """P overlapping (detection, object) pairs, each pair in one image."""

    detection: NDArray[np.int64]  # (P,) ascending
    object: NDArray[np.int64]  # (P,)
    iou: NDArray[np.float64]  # (P,) with a crowd: the share of the detection inside it


def overlapping_pairs(tables: CocoTables, min_iou: float, same_category: bool) -> Pairs:
    """All pairs in one image (and of one category) with IoU >= min_iou > 0.

    With a crowd region the union is the detection's own area, as in the COCO mask API (`iscrowd`), so any part of a
    crowd counts.
    """
    detection_group, object_group = tables.detection_image, tables.object_image
    if same_category:
        num_categories = len(tables.category_ids)
        detection_group = detection_group * num_categories + tables.detection_category
        object_group = object_group * num_categories + tables.object_category
    parts = [_overlap(tables, d, o, min_iou) for d, o in _grouped_pairs(detection_group, object_group)]
    if not parts:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    detection, obj, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Pairs(detection, obj, iou)


def _grouped_pairs(
    detection_group: NDArray[np.int64], object_group: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(detection, object) indices of every pair with the same group number, a bounded number at a time."""
    order = np.argsort(object_group, kind="stable")
    ordered = object_group[order]
    first = np.searchsorted(ordered, detection_group, "left")
    count = np.searchsorted(ordered, detection_group, "right") - first
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_A_CHUNK, "right")))
        repeats = count[start:stop]
        detection = np.repeat(np.arange(start, stop), repeats)
        position = np.arange(len(detection)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        yield detection, order[np.repeat(first[start:stop], repeats) + position]
        start = stop


def _overlap(
    tables: CocoTables, detection: NDArray[np.int64], obj: NDArray[np.int64], min_iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    a, b = tables.detection_box[detection].T, tables.object_box[obj].T
    width = np.minimum(a[0] + a[2], b[0] + b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[1] + a[3], b[1] + b[3]) - np.maximum(a[1], b[1])
    touch = (width > 0) & (height > 0)
    detection, obj, intersection, a, b = detection[touch], obj[touch], (width * height)[touch], a[:, touch], b[:, touch]
    with np.errstate(over="ignore"):  # an infinite area overlaps by nothing
        own = a[2] * a[3]
    # The order of the operations is that of the reference: it decides on which side of a threshold a tie falls.
    union = np.where(tables.object_crowd[obj], own, own + b[2] * b[3] - intersection)
    iou = intersection / union
    keep = iou >= min_iou
    return detection[keep], obj[keep], iou[keep]


def greedy_match(
    tables: CocoTables, pairs: Pairs, iou_thrs: NDArray[np.float64], max_dets: int | None = 100
) -> NDArray[np.int64]:
    """(T, D) the object that each detection takes at each IoU threshold, -1 where none (cocoapi, `evaluateImg`).

    By descending score, a detection takes the free object of its category with the highest IoU, the later one of
    equals; a crowd only if there is no other, and a crowd is never used up. Detections beyond `max_dets` in their
    image and category take nothing. `pairs` may hold other categories too; they are left out here.
    """
    rank = tables.detection_rank
    use = tables.detection_category[pairs.detection] == tables.object_category[pairs.object]
    use &= pairs.iou >= min(float(iou_thrs.min()), 1 - 1e-10)
    if max_dets is not None:
        use &= rank[pairs.detection] < max_dets
    detection, obj, iou = pairs.detection[use], pairs.object[use], pairs.iou[use]
    crowd = tables.object_crowd[obj]
    # Preference does not depend on the threshold, so "the first allowed one" is the reference's running best.
    order = np.lexsort((-obj, -iou, crowd, detection, rank[detection]))
    detection, obj, iou, crowd = detection[order], obj[order], iou[order], crowd[order]
    close = iou[:, None] >= np.minimum(iou_thrs, 1 - 1e-10)  # the reference lowers a threshold of 1 by this much
    matched = np.full((len(iou_thrs), len(rank)), -1, np.int64)
    taken = np.zeros((len(tables.object_image), len(iou_thrs)), bool)
    bounds = np.flatnonzero(np.diff(rank[detection], prepend=-1, append=-1)) if len(detection) else np.empty(0, int)
    for start, stop in pairwise(bounds.tolist()):
        rows = slice(start, stop)
        allowed = close[rows] & (~taken[obj[rows]] | crowd[rows, None])
        firsts = np.flatnonzero(np.diff(detection[rows], prepend=-1))
        position = np.where(allowed, np.arange(stop - start)[:, None], stop - start)
        best = np.minimum.reduceat(position, firsts, axis=0)
        which, threshold = np.nonzero(best < stop - start)
        winner = start + best[which, threshold]
        matched[threshold, detection[winner]] = obj[winner]
        taken[obj[winner], threshold] = True
    return matched


@dataclass(frozen=True)
class Outcome:
    """What became of each detection at each IoU threshold: true, ignored, or (neither) a false positive."""

    true: NDArray[np.bool_]  # (T, D) took an object that counts
    ignored: NDArray[np.bool_]  # (T, D) took a crowd, lies beyond max_dets, or beyond COCO's range 'all'


def outcome(tables: CocoTables, matched: NDArray[np.int64], max_dets: int | None = 100) -> Outcome:
    """Sort matches (T, D) of `greedy_match` into true, ignored and false as cocoapi's `accumulate` counts them."""
    hit = matched >= 0
    on_ignored = hit & object_ignored(tables)[matched] if len(tables.object_image) else hit
    with np.errstate(over="ignore"):  # a side of 1e300 px: an infinite area is beyond the range, too
        area = tables.detection_box[:, 2] * tables.detection_box[:, 3]
    unlisted = np.zeros(len(area), bool) if max_dets is None else tables.detection_rank >= max_dets
    outside = (area < AREA_ALL[0]) | (area > AREA_ALL[1])
    return Outcome(true=hit & ~on_ignored, ignored=on_ignored | unlisted | (~hit & outside))


def object_ignored(tables: CocoTables) -> NDArray[np.bool_]:
    """(G,) objects that count neither as found nor as missed: crowds, and areas beyond COCO's range 'all'."""
    return tables.object_crowd | (tables.object_area < AREA_ALL[0]) | (tables.object_area > AREA_ALL[1])
