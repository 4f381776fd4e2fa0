"""What objects are detected as, at one score: the confusion matrix, and the errors of each image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables
from harness.evaluation.matching import Pairs, greedy_match, object_ignored, outcome, overlapping_pairs

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Detected:
    """The detections from one score on, each with its object or without; D detections, G objects, K categories."""

    tables: CocoTables  # the detections that are counted, and all objects
    kept: Indices  # (D,) their places in the input
    object: Indices  # (D,) the object that a detection found or mistook; -1: none
    false: NDArray[np.bool_]  # (D,) neither a found object nor on an ignored region
    missed: NDArray[np.bool_]  # (G,) counts, and no detection of its own category found it

    @property
    def errors(self) -> Indices:
        """(I,) false detections and missed objects of each image."""
        number = len(self.tables.image_ids)
        false = np.bincount(self.tables.detection_image[self.false], minlength=number)
        return false + np.bincount(self.tables.object_image[self.missed], minlength=number)

    def matrix(self) -> Indices:
        """(K + 1, K + 1) counts: rows are the objects' categories (last: no object), columns what they were detected as
        (last: not at all).
        """
        tables, size = self.tables, len(self.tables.category_ids) + 1
        hit = self.object >= 0
        lost = self.missed.copy()
        lost[self.object[hit]] = False  # those that were taken for another category stand there
        alone = self.false & ~hit
        cells = (
            tables.object_category[self.object[hit]] * size + tables.detection_category[hit],
            (size - 1) * size + tables.detection_category[alone],
            tables.object_category[lost] * size + size - 1,
        )
        return np.bincount(np.concatenate(cells), minlength=size * size).reshape(size, size)


def best_f1_score(tables: CocoTables, iou_thr: float = 0.5, max_dets: int = 100) -> float:
    """The least score of the detections whose F1 over all categories is highest: where a detector would be used.

    Detectors are calibrated differently, so one score for all would compare different operating points. NaN without a
    single right detection.
    """
    pairs = overlapping_pairs(tables, iou_thr, same_category=True)
    judged = outcome(tables, greedy_match(tables, pairs, np.array([iou_thr]), max_dets), max_dets)
    order = np.argsort(-tables.detection_score, kind="stable")
    order = order[~judged.ignored[0][order]]
    true = np.cumsum(judged.true[0][order])
    if not len(true) or not true[-1]:
        return float("nan")
    objects = int((~object_ignored(tables)).sum())
    f1 = 2 * true / (np.arange(1, len(true) + 1) + objects)
    return float(tables.detection_score[order[int(f1.argmax())]])


def detected(tables: CocoTables, score: float, iou_thr: float = 0.5, max_dets: int = 100) -> Detected:
    """Matches the detections from ``score`` on with the objects.

    First as COCO does, inside each category. What is left is matched across categories, by descending score with the
    free object of the highest IoU: these are the confusions.
    """
    kept = np.flatnonzero((tables.detection_score >= score) & (tables.detection_rank < max_dets))
    part = replace(
        tables,
        detection_image=tables.detection_image[kept],
        detection_category=tables.detection_category[kept],
        detection_box=tables.detection_box[kept],
        detection_score=tables.detection_score[kept],
    )
    pairs = overlapping_pairs(part, iou_thr, same_category=False)
    matched = greedy_match(part, pairs, np.array([iou_thr]), max_dets)
    judged = outcome(part, matched, max_dets)
    counts = ~object_ignored(part)
    found = np.where(judged.true[0], matched[0], -1)
    missed = counts.copy()
    missed[found[found >= 0]] = False
    false = ~judged.true[0] & ~judged.ignored[0]
    return Detected(part, kept, _with_confusions(part, pairs, found, false, missed), false, missed)


def _with_confusions(
    tables: CocoTables, pairs: Pairs, found: Indices, false: NDArray[np.bool_], missed: NDArray[np.bool_]
) -> Indices:
    free, out = missed.copy(), found.copy()
    use = false[pairs.detection] & missed[pairs.object]
    detection, obj, iou = pairs.detection[use], pairs.object[use], pairs.iou[use]
    for k in np.lexsort((obj, -iou, detection, -tables.detection_score[detection])).tolist():
        if free[obj[k]] and out[detection[k]] < 0:
            out[detection[k]] = obj[k]
            free[obj[k]] = False
    return out
