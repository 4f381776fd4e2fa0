"""Precision at COCO's 101 recalls, per category and IoU, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_metrics import IOU_THRS, RECALL_THRS, CocoCurves


@dataclass(frozen=True)
class PrecisionRecall:
    """Interpolated precision (highest at this recall or a higher one), all sizes, max_dets detections."""

    iou_thrs: tuple[float, ...]  # T
    categories: tuple[str, ...]  # K, without those that have no object
    recall: NDArray[np.float64]  # (101,)
    precision: NDArray[np.float64]  # (T, K, 101)

    def mean(self) -> NDArray[np.float64]:
        """(T, 101) mean over the categories; its own mean over recalls is AP at that IoU. NaN without categories."""
        if not self.categories:
            return np.full((len(self.iou_thrs), len(self.recall)), np.nan)
        return np.asarray(self.precision.mean(1))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, six digits: one entry per curve, the mean over the categories first at each IoU."""
        curves: list[dict[str, Any]] = []
        for t, iou in enumerate(self.iou_thrs if self.categories else ()):
            named = [("mean", self.mean()[t]), *zip(self.categories, self.precision[t], strict=True)]
            curves += [{"iou": iou, "category": name, "precision": np.round(y, 6).tolist()} for name, y in named]
        return {"recall": np.round(self.recall, 2).tolist(), "curves": curves}


def precision_recall(
    curves: CocoCurves, category_names: Sequence[str], iou_thrs: Sequence[float] = (0.5, 0.75)
) -> PrecisionRecall:
    """The curves at some of COCO's ten IoUs. Raises ValueError for an IoU that is none of .50, .55, ..., .95."""
    rows = []
    for iou in iou_thrs:
        near = np.flatnonzero(np.isclose(IOU_THRS, iou))
        if not len(near):
            raise ValueError(f"iou_thrs must be among .50, .55, ..., .95, got {iou:g}")
        rows.append(int(near[0]))
    precision = curves.precision[rows, :, :, 0].transpose(0, 2, 1)
    present = np.flatnonzero((precision >= 0).all((0, 2))).tolist()
    return PrecisionRecall(
        iou_thrs=tuple(float(round(IOU_THRS[row], 2)) for row in rows),
        categories=tuple(category_names[k] for k in present),
        recall=RECALL_THRS,
        precision=precision[:, present],
    )
