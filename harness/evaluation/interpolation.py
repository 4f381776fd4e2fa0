"""COCO's 101-point average precision, for all categories at once.

Precision peaks right after a true positive, so the interpolated curve needs the true positives only, with the number
of detections listed up to each: five hundred thousand rows shrink to at most one per object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_metrics import RECALL_THRS


def ap_from_ranks(
    category: NDArray[np.int64],
    true: NDArray[np.int64],
    true_base: NDArray[np.int64],
    listed: NDArray[np.int64],
    num_objects: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(K,) AP from M true positives, ordered by category, then by descending score. NaN where there is no object.

    category (M,) ascending; true (M,) running count of true positives over *all* categories, this one included;
    true_base (K,) that count before each category; listed (M,) detections of the category up to this one;
    num_objects (K,). Counts may be weighted by integers.
    """
    num_categories = len(num_objects)
    if not len(category):
        return np.where(num_objects > 0, 0.0, np.nan)
    precision = (true - true_base[category]) / (listed + np.spacing(1))
    peak = _peak_from_here_on(precision, category, num_categories)
    target = true_base[:, None] + objects_needed(num_objects)
    row = np.searchsorted(true, target, "left")
    total = np.append(true_base[1:], true[-1])
    reached = target <= total[:, None]
    ap = np.where(reached, peak[np.minimum(row, len(peak) - 1)], 0.0).mean(1)
    return np.where(num_objects > 0, ap, np.nan)


def ap_of_ranking(
    category: NDArray[np.int64], is_true: NDArray[np.bool_], num_objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(K,) AP of N counted detections, ordered by category, then by descending score; see `ap_from_ranks`."""
    start = np.searchsorted(category, np.arange(len(num_objects)), "left")
    rows = np.flatnonzero(is_true)
    before = np.searchsorted(rows, start)
    return ap_from_ranks(
        category[rows], np.arange(1, len(rows) + 1), before, rows + 1 - start[category[rows]], num_objects
    )


def objects_needed(num_objects: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K, 101) the least number of true positives whose recall reaches each threshold; at least 1.

    In integers, and with the very division that the COCO code compares with: near a threshold, rounding decides.
    """
    total = np.maximum(num_objects, 1)[:, None]
    guess = np.floor(RECALL_THRS * total).astype(np.int64)
    while (short := guess / total < RECALL_THRS).any():
        guess += short
    return np.maximum(guess, 1)


def _peak_from_here_on(
    precision: NDArray[np.float64], category: NDArray[np.int64], num_categories: int
) -> NDArray[np.float64]:
    """Highest precision at this or a later row of the same category (the envelope of the curve)."""
    # Walking backwards, each category's values lie above those of the one walked before, so one running maximum serves
    # all; the offset is taken off again by looking up where the maximum was, which costs no digits.
    lifted = precision + 2.0 * (num_categories - category)
    backwards = lifted[::-1]
    best = np.maximum.accumulate(backwards)
    where = np.maximum.accumulate(np.where(backwards >= best, np.arange(len(best)), 0))
    return precision[::-1][where][::-1]
