"""PASCAL VOC average precision, 11-point and every-point, at any IoU.

Unlike COCO's, a detection belongs to the object that it overlaps *most*, taken or not: if that one is taken, the
detection is a false positive even when another object would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluation.coco_format import CocoTables, read_tables
from harness.evaluation.matching import overlapping_pairs
from harness.runs.records import jsonable


@dataclass(frozen=True)
class VocClass:
    category: str
    num_objects: int  # without the difficult ones
    ap_11_point: float  # VOC 2007; NaN without objects
    ap_every_point: float  # VOC 2010 and later


@dataclass(frozen=True)
class VocAccuracy:
    """Fractions in 0..1; means are over the categories that have an object."""

    iou_thr: float
    map_11_point: float
    map_every_point: float
    per_class: tuple[VocClass, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what has no value (NaN) is None."""
        plain: dict[str, Any] = jsonable(self)
        return plain


def voc_ap(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    iou_thr: float = 0.5,
    inclusive: bool = False,
    lenient: bool = False,
) -> VocAccuracy:
    """VOC AP (Everingham et al. 2010, section 4.2; VOC2012 devkit, `VOCevaldet`) of COCO-format input.

    An annotation is difficult if it says `difficult`, `ignore` or `iscrowd`: it need not be found, and a detection on
    it counts neither way. A detection is right at IoU >= iou_thr. Boxes are continuous; `inclusive` adds the
    devkit's one pixel to each side, for boxes whose last pixel belongs to them. Equal scores rank in input order.

    Raises ValueError for faulty input (one line) and for an IoU outside (0, 1].
    """
    return voc_accuracy(read_tables(annotations, detections, lenient), iou_thr, inclusive)


def voc_accuracy(tables: CocoTables, iou_thr: float = 0.5, inclusive: bool = False) -> VocAccuracy:
    """`voc_ap` of input that has been read already."""
    if not 0 < iou_thr <= 1:
        raise ValueError(f"iou_thr must be in (0, 1], got {iou_thr:g}")
    difficult = tables.object_difficult | tables.object_crowd
    true, ignored = _judge(tables, difficult, iou_thr, inclusive)
    counted = np.flatnonzero(~ignored)
    order = counted[np.argsort(-tables.detection_score[counted], kind="stable")]
    category = tables.detection_category[order]
    rows = []
    for k, name in enumerate(tables.category_names):
        num_objects = int((~difficult & (tables.object_category == k)).sum())
        found = true[order[category == k]]
        rows.append(VocClass(name, num_objects, *_both_aps(found, num_objects)))
    present = [row for row in rows if row.num_objects]
    mean_11 = float(np.mean([row.ap_11_point for row in present])) if present else float("nan")
    mean_every = float(np.mean([row.ap_every_point for row in present])) if present else float("nan")
    return VocAccuracy(iou_thr, mean_11, mean_every, tuple(rows))


def _judge(
    tables: CocoTables, difficult: NDArray[np.bool_], iou_thr: float, inclusive: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(D,) true and (D,) ignored, by the object of highest IoU (the first of equals) of the same image and category."""
    pixel = np.array([0.0, 0.0, 1.0, 1.0]) * inclusive
    plain = replace(
        tables,
        object_crowd=np.zeros_like(tables.object_crowd),  # VOC knows no crowd regions: an ordinary IoU for all
        object_box=tables.object_box + pixel,
        detection_box=tables.detection_box + pixel,
    )
    pairs = overlapping_pairs(plain, iou_thr, same_category=True)
    order = np.lexsort((pairs.object, -pairs.iou, pairs.detection))
    best = order[np.flatnonzero(np.diff(pairs.detection[order], prepend=-1))]
    detection, obj = pairs.detection[best], pairs.object[best]
    true, ignored = np.zeros((2, len(tables.detection_score)), bool)
    ignored[detection[difficult[obj]]] = True
    by_score = np.argsort(-tables.detection_score[detection], kind="stable")
    _, first = np.unique(obj[by_score], return_index=True)
    true[detection[by_score[first]]] = True
    return true & ~ignored, ignored


def _both_aps(found: NDArray[np.bool_], num_objects: int) -> tuple[float, float]:
    """11-point and every-point AP of one category's detections in order of score."""
    if not num_objects:
        return float("nan"), float("nan")
    true = np.cumsum(found)
    recall, precision = true / num_objects, true / np.arange(1, len(found) + 1)
    peak = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.arange(11) / 10, "left")
    eleven = sum(float(peak[i]) for i in at if i < len(peak)) / 11
    return eleven, float((np.diff(recall, prepend=0.0) * peak).sum())
