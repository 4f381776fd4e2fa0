"""What kind of mistakes a detector makes, and what each kind costs (TIDE, Bolya et al. 2020, ECCV).

Each false positive gets one of five types by its overlap with the objects, each object that no detection could have
been repaired into gets the sixth (missed). The cost of a type is the AP gained when an oracle repairs it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables, read_tables
from harness.evaluation.interpolation import ap_of_ranking
from harness.evaluation.matching import Pairs, greedy_match, object_ignored, outcome, overlapping_pairs
from harness.runs.records import jsonable

LABELS = (
    "true_positive",
    "classification",  # another category's object at IoU >= pos_thr
    "localisation",  # its own category's object, bg_thr <= IoU < pos_thr
    "both",  # another category's object, bg_thr <= IoU < pos_thr
    "duplicate",  # its own category's object at IoU >= pos_thr, which a higher score has taken
    "background",  # no object at IoU >= bg_thr
    "ignored",  # on a crowd region, or beyond max_dets: no error and no success
)
FALSE_POSITIVES = LABELS[1:6]
ERROR_TYPES = (*FALSE_POSITIVES, "missed")
# How the types are written for people. Results keep the spelling that older ones have as their keys.
ERROR_NAMES = {kind: kind.replace("localisation", "localization") for kind in ERROR_TYPES}
TRUE, CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, IGNORED = range(7)


@dataclass(frozen=True)
class ErrorLabels:
    """One label a detection and the objects that were missed, in the order of the input."""

    labels: tuple[str, ...]  # (D,) of LABELS
    object: NDArray[np.int64]  # (D,) annotation that the detection took, or would have with its error repaired; -1
    missed: NDArray[np.int64]  # annotations that no detection found, and none missed by category or box alone


@dataclass(frozen=True)
class TideErrors:
    """Counts and costs at one IoU. AP in 0..1."""

    ap: float  # AP at pos_thr, mean over the categories that have an object
    pos_thr: float
    bg_thr: float
    counts: dict[str, int]  # by ERROR_TYPES
    delta_ap: dict[str, float]  # AP gained with this type repaired alone, by ERROR_TYPES
    delta_ap_false_positive: float  # with every false positive gone
    delta_ap_false_negative: float  # with every unfound object gone

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what has no value (NaN) is None."""
        plain: dict[str, Any] = jsonable(self)
        return plain


@dataclass(frozen=True)
class _Diagnosis:
    code: NDArray[np.int8]  # (D,) index into LABELS
    object: NDArray[np.int64]  # (D,)
    unfound: NDArray[np.bool_]  # (G,) counts, and no detection took it
    missed: NDArray[np.bool_]  # (G,)


def classify_errors(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    pos_thr: float = 0.5,
    bg_thr: float = 0.1,
    max_dets: int = 100,
) -> ErrorLabels:
    """The TIDE label of every detection of COCO-format input (paper, section 2.2).

    Where several fit, the order is that of the authors' tool: localisation, classification, duplicate, background,
    both. Raises ValueError for faulty input (one line) and unless 0 < bg_thr <= pos_thr <= 1.
    """
    found = _diagnose(read_tables(annotations, detections), pos_thr, bg_thr, max_dets)
    labels = tuple(LABELS[code] for code in found.code.tolist())
    return ErrorLabels(labels, found.object, np.flatnonzero(found.missed))


def tide_errors(
    tables: CocoTables,
    pos_thr: float = 0.5,
    bg_thr: float = 0.1,
    max_dets: int = 100,
    pairs: Pairs | None = None,
) -> TideErrors:
    """Counts and delta AP of each type (paper, sections 2.2 and 2.3).

    `pairs`, if at hand: all overlaps of any category at bg_thr or below. A gain below zero is shown as 0, as in the
    authors' tool: it stems from the 101 recall points, not from the error.
    """
    found = _diagnose(tables, pos_thr, bg_thr, max_dets, pairs)
    num_objects = _per_category(tables, ~object_ignored(tables))
    oracle = _Oracle(tables, found, num_objects)
    is_true, listed = found.code == TRUE, found.code != IGNORED
    ap = oracle.mean_ap(is_true, listed)
    kinds = list(enumerate(LABELS[1:6], start=1))
    gains = {kind: oracle.repaired(code) - ap for code, kind in kinds}
    gains["missed"] = oracle.mean_ap(is_true, listed, num_objects - _per_category(tables, found.missed)) - ap
    every_found = oracle.mean_ap(is_true, listed, num_objects - _per_category(tables, found.unfound))
    counts = {kind: int((found.code == code).sum()) for code, kind in kinds}
    return TideErrors(
        ap=ap,
        pos_thr=pos_thr,
        bg_thr=bg_thr,
        counts=counts | {"missed": int(found.missed.sum())},
        delta_ap={kind: float(np.maximum(gain, 0.0)) for kind, gain in gains.items()},
        delta_ap_false_positive=oracle.mean_ap(is_true, is_true) - ap,
        delta_ap_false_negative=every_found - ap,
    )


def _diagnose(
    tables: CocoTables, pos_thr: float, bg_thr: float, max_dets: int, pairs: Pairs | None = None
) -> _Diagnosis:
    if not 0 < bg_thr <= pos_thr <= 1:
        raise ValueError(f"thresholds must be 0 < bg_thr <= pos_thr <= 1, got bg_thr {bg_thr:g}, pos_thr {pos_thr:g}")
    if pairs is None:
        pairs = overlapping_pairs(tables, bg_thr, same_category=False)
    matched = greedy_match(tables, pairs, np.array([pos_thr]), max_dets)
    judged = outcome(tables, matched, max_dets)
    counts = ~object_ignored(tables)
    near = (pairs.iou >= bg_thr) & counts[pairs.object]
    same = tables.detection_category[pairs.detection] == tables.object_category[pairs.object]
    own_iou, own = _closest(pairs, near & same, len(tables.detection_score))
    other_iou, other = _closest(pairs, near & ~same, len(tables.detection_score))
    rules = [
        (judged.ignored[0], IGNORED, -1),
        (judged.true[0], TRUE, matched[0]),
        ((own >= 0) & (own_iou < pos_thr), LOCALISATION, own),
        ((other >= 0) & (other_iou >= pos_thr), CLASSIFICATION, other),
        (own >= 0, DUPLICATE, own),
        (other >= 0, BOTH, other),
    ]
    conditions = [rule[0] for rule in rules]
    code = np.select(conditions, [rule[1] for rule in rules], BACKGROUND).astype(np.int8)
    obj = np.select(conditions, [rule[2] for rule in rules], -1)
    unfound = counts.copy()
    unfound[obj[code == TRUE]] = False
    missed = unfound.copy()
    missed[obj[(code == LOCALISATION) | (code == CLASSIFICATION)]] = False
    return _Diagnosis(code, obj, unfound, missed)


def _closest(pairs: Pairs, use: NDArray[np.bool_], size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(D,) highest IoU among the pairs in use and the (D,) object it is with, the first of equals; 0 and -1 if none."""
    detection, obj, iou = pairs.detection[use], pairs.object[use], pairs.iou[use]
    order = np.lexsort((obj, -iou, detection))
    first = order[np.flatnonzero(np.diff(detection[order], prepend=-1))]
    best_iou, best = np.zeros(size), np.full(size, -1, np.int64)
    best_iou[detection[first]], best[detection[first]] = iou[first], obj[first]
    return best_iou, best


def _per_category(tables: CocoTables, objects: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.bincount(tables.object_category[objects], minlength=len(tables.category_ids))


class _Oracle:
    """AP with something repaired. Sorting is what costs, so the order by score is kept for all repairs but one."""

    def __init__(self, tables: CocoTables, found: _Diagnosis, num_objects: NDArray[np.int64]) -> None:
        self._tables, self._found, self._num_objects = tables, found, num_objects
        self._order = self._sorted(tables.detection_category)

    def _sorted(self, category: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.lexsort((self._tables.detection_image, -self._tables.detection_score, category))

    def mean_ap(
        self,
        is_true: NDArray[np.bool_],
        listed: NDArray[np.bool_],
        num_objects: NDArray[np.int64] | None = None,
        category: NDArray[np.int64] | None = None,
    ) -> float:
        """AP over the listed detections, NaN if no category has an object.

        A category that loses all of its objects keeps its AP of 0 in the mean: it has no true positive.
        """
        order = self._order if category is None else self._sorted(category)
        category = self._tables.detection_category if category is None else category
        rows = order[listed[order]]
        ap = ap_of_ranking(category[rows], is_true[rows], self._num_objects if num_objects is None else num_objects)
        present = self._num_objects > 0
        return float(np.nan_to_num(ap[present]).mean()) if present.any() else float("nan")

    def repaired(self, kind: int) -> float:
        """AP with one type of false positive repaired (paper, section 2.3).

        A wrong category or box is put right if that finds an object nobody has found, once an object: for the highest
        score among all its wrong categories and boxes, as in the authors' tool. All others of the type are dropped.
        """
        found, tables = self._found, self._tables
        right = np.zeros(len(found.code), bool)
        repairable = np.flatnonzero((found.code == LOCALISATION) | (found.code == CLASSIFICATION))
        repairable = repairable[found.unfound[found.object[repairable]]]
        order = repairable[np.lexsort((-tables.detection_score[repairable], found.object[repairable]))]
        right[order[np.flatnonzero(np.diff(found.object[order], prepend=-1))]] = True
        right &= found.code == kind
        listed = (found.code != IGNORED) & ((found.code != kind) | right)
        category = None
        if kind == CLASSIFICATION:
            category = tables.detection_category.copy()
            category[right] = tables.object_category[found.object[right]]
        return self.mean_ap(right | (found.code == TRUE), listed, category=category)
