"""Does a score of 0.8 mean that 8 of 10 such detections are right? Reliability bins and the detection ECE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables, read_tables
from harness.evaluation.matching import Pairs, greedy_match, outcome, overlapping_pairs
from harness.runs.records import jsonable


@dataclass(frozen=True)
class ReliabilityBin:
    """Detections with lower < score <= upper; the first bin holds a score of 0 as well."""

    lower: float
    upper: float
    count: int
    confidence: float  # mean score; NaN in an empty bin
    precision: float  # share that is right; NaN in an empty bin


@dataclass(frozen=True)
class Calibration:
    iou_thr: float
    d_ece: float  # sum over bins of share x |precision - confidence|; 0 is perfect, NaN without detections
    max_error: float  # the largest |precision - confidence| of a bin
    num_detections: int  # ignored ones (on crowds, beyond max_dets) are not counted
    bins: tuple[ReliabilityBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what has no value (NaN) is None."""
        plain: dict[str, Any] = jsonable(self)
        return plain


def calibration(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    num_bins: int = 10,
    iou_thr: float = 0.5,
    min_score: float = 0.0,
    max_dets: int = 100,
) -> Calibration:
    """Detection ECE over the confidence (Kueppers et al. 2020, "Multivariate Confidence Calibration for Object
    Detection", equation 4) of COCO-format input.

    A detection is right if it takes an object at iou_thr in COCO's matching; scores below min_score are left out.
    A detector is compared with its precision, since it cannot be asked about objects it does not report.

    Raises ValueError for faulty input, for scores outside [0, 1], num_bins < 1, and an IoU outside (0, 1].
    """
    return calibration_of(read_tables(annotations, detections), num_bins, iou_thr, min_score, max_dets)


def calibration_of(
    tables: CocoTables,
    num_bins: int = 10,
    iou_thr: float = 0.5,
    min_score: float = 0.0,
    max_dets: int = 100,
    pairs: Pairs | None = None,
) -> Calibration:
    """`calibration` of input that has been read already; `pairs` as in `tide_errors`, at iou_thr or below."""
    if num_bins < 1:
        raise ValueError(f"num_bins must be >= 1, got {num_bins}")
    if not 0 < iou_thr <= 1:
        raise ValueError(f"iou_thr must be in (0, 1], got {iou_thr:g}")
    if not has_probabilities(tables):
        raise ValueError("calibration needs scores in [0, 1]")
    if pairs is None:
        pairs = overlapping_pairs(tables, min(iou_thr, 1 - 1e-10), same_category=True)
    judged = outcome(tables, greedy_match(tables, pairs, np.array([iou_thr]), max_dets), max_dets)
    use = ~judged.ignored[0] & (tables.detection_score >= min_score)
    return _binned(tables.detection_score[use], judged.true[0][use], num_bins, iou_thr)


def has_probabilities(tables: CocoTables) -> bool:
    """Whether every score lies in [0, 1], so that it can be read as a probability."""
    return bool(((tables.detection_score >= 0) & (tables.detection_score <= 1)).all())


def _binned(score: NDArray[np.float64], right: NDArray[np.bool_], num_bins: int, iou_thr: float) -> Calibration:
    edges = np.arange(num_bins + 1) / num_bins
    place = np.clip(np.searchsorted(edges, score, "left") - 1, 0, num_bins - 1)
    count = np.bincount(place, minlength=num_bins)
    filled = np.where(count > 0, count, np.nan)
    confidence = np.bincount(place, score, num_bins) / filled
    precision = np.bincount(place, right, num_bins) / filled
    gap = np.abs(precision - confidence)
    total = len(score)
    return Calibration(
        iou_thr=iou_thr,
        d_ece=float(np.nansum(gap * count) / total) if total else float("nan"),
        max_error=float(np.nanmax(gap)) if total else float("nan"),
        num_detections=total,
        bins=tuple(
            ReliabilityBin(*limits, int(n), float(c), float(p))
            for limits, n, c, p in zip(pairwise(edges.tolist()), count, confidence, precision, strict=True)
        ),
    )
