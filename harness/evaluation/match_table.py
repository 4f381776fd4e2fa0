"""The matches of each image, kept so that mAP over resampled images costs milliseconds.

Matching happens inside an image; only the ranking by score crosses images. So a resample of the test set needs no new
matching, only new weights on rows that are already in order of score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables, read_tables
from harness.evaluation.coco_metrics import IOU_THRS
from harness.evaluation.federated import MAX_DETS, best_of_images, is_federated, looked_for, not_exhaustive
from harness.evaluation.interpolation import ap_from_ranks
from harness.evaluation.matching import greedy_match, object_ignored, outcome, overlapping_pairs


@dataclass(frozen=True)
class _Ranks:
    """At one IoU threshold: the rows of the true positives and of the ignored ones, and where each category starts."""

    true: NDArray[np.int64]  # rows, ascending
    ignored: NDArray[np.int64]  # rows, ascending
    ignored_before_true: NDArray[np.int64]  # how many ignored rows precede each true positive
    ignored_before_category: NDArray[np.int64]  # (K,)
    true_before_category: NDArray[np.int64]  # (K,)


class MatchTable:
    """N ranked detections, of all sizes, with what became of them at COCO's ten IoU thresholds.

    Public: `image_ids`, `num_images`, `category_ids`; `average_precision(weights)` and `mean_average_precision`.
    Of the detections in `spared` (D,), those that find no object count in neither way.
    """

    def __init__(
        self,
        tables: CocoTables,
        max_dets: int = 100,
        iou_thrs: NDArray[np.float64] = IOU_THRS,
        spared: NDArray[np.bool_] | None = None,
    ) -> None:
        self.image_ids, self.category_ids = tables.image_ids, tables.category_ids
        self.num_images, num_categories = len(tables.image_ids), len(tables.category_ids)
        pairs = overlapping_pairs(tables, min(float(iou_thrs.min()), 1 - 1e-10), same_category=True)
        judged = outcome(tables, greedy_match(tables, pairs, iou_thrs, max_dets), max_dets)
        in_neither = judged.ignored if spared is None else judged.ignored | (~judged.true & spared)
        kept = np.flatnonzero(tables.detection_rank < max_dets)
        # Equal scores stay in order of image, then of input: the order in which the COCO code concatenates them.
        keys = (tables.detection_image[kept], -tables.detection_score[kept], tables.detection_category[kept])
        rows = kept[np.lexsort(keys)]
        self._image = tables.detection_image[rows]
        self._category = tables.detection_category[rows]
        self._start = np.searchsorted(self._category, np.arange(num_categories), "left")
        counts = ~object_ignored(tables)
        self._objects = np.zeros((self.num_images, num_categories), np.int64)
        np.add.at(self._objects, (tables.object_image[counts], tables.object_category[counts]), 1)
        self._ranks = tuple(
            self._ranked(true[rows], ignored[rows]) for true, ignored in zip(judged.true, in_neither, strict=True)
        )

    @classmethod
    def from_coco(
        cls, annotations: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], max_dets: int = 100
    ) -> MatchTable:
        """From COCO-format input, checked as in `read_tables`. Federated annotations (LVIS) are scored as by
        `federated_curves`, with LVIS's own number of detections."""
        tables = read_tables(annotations, detections, lenient=True)
        if not is_federated(annotations):
            return cls(tables, max_dets)
        tables = tables.with_detections(best_of_images(tables) & looked_for(annotations, tables))
        return cls(tables, MAX_DETS, spared=not_exhaustive(annotations, tables))

    def _ranked(self, is_true: NDArray[np.bool_], is_ignored: NDArray[np.bool_]) -> _Ranks:
        true, ignored = np.flatnonzero(is_true), np.flatnonzero(is_ignored)
        return _Ranks(
            true=true,
            ignored=ignored,
            ignored_before_true=np.searchsorted(ignored, true),
            ignored_before_category=np.searchsorted(ignored, self._start),
            true_before_category=np.searchsorted(true, self._start),
        )

    def average_precision(self, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """(T, K) COCO AP per IoU threshold and category, NaN for a category without objects.

        `weights` (I,) says how often each image counts (integers >= 0); None: each once. Exactly the AP of the
        data set in which each image stands that often, when scores do not tie.
        """
        if weights is None:
            weights = np.ones(self.num_images, np.int64)
        num_objects = weights @ self._objects
        row_weight = weights[self._image]
        seen = _running(row_weight)
        result = [self._ap(ranks, row_weight, seen, num_objects) for ranks in self._ranks]
        return np.array(result).reshape(len(self._ranks), len(num_objects))

    def _ap(
        self, ranks: _Ranks, weight: NDArray[np.int64], seen: NDArray[np.int64], num_objects: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        category = self._category[ranks.true]
        true = _running(weight[ranks.true])
        true_base = true[ranks.true_before_category]
        listed = seen[ranks.true + 1] - seen[self._start][category]
        if len(ranks.ignored):
            ignored = _running(weight[ranks.ignored])
            listed -= ignored[ranks.ignored_before_true] - ignored[ranks.ignored_before_category][category]
        return ap_from_ranks(category, true[1:], true_base, listed, num_objects)

    def mean_average_precision(self, weights: NDArray[np.int64] | None = None) -> float:
        """mAP@[.5:.95] (fraction) over the categories that have an object; NaN if none has."""
        ap = self.average_precision(weights)
        present = ~np.isnan(ap)
        return float(ap[present].mean()) if present.any() else float("nan")


def _running(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulative sum with a leading zero: the sum over rows a..b-1 is running[b] - running[a]."""
    total = np.empty(len(values) + 1, np.int64)
    total[0] = 0
    np.cumsum(values, out=total[1:])
    return total
