"""VOC AP equals the devkit's rules written as plainly as they are stated."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harness.evaluation.voc_ap import voc_ap
from tests.evaluation.random_detections import random_detections


def overlap(a: list[float], b: list[float], extra: float) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + extra
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] + extra) * (a[3] + extra) + (b[2] + extra) * (b[3] + extra) - width * height
    return width * height / union


def naive(annotations: Any, detections: Any, category: int, iou_thr: float, extra: float) -> tuple[float, float]:
    objects = [row for row in annotations["annotations"] if row["category_id"] == category]
    hard = [bool(row.get("difficult") or row.get("ignore") or row["iscrowd"]) for row in objects]
    total = hard.count(False)
    if total == 0:
        return float("nan"), float("nan")
    found = sorted((row for row in detections if row["category_id"] == category), key=lambda row: -row["score"])
    taken = [False] * len(objects)
    true, false, curve = 0, 0, []
    for row in found:
        best, best_iou = -1, -1.0
        for j, obj in enumerate(objects):
            if obj["image_id"] == row["image_id"] and overlap(row["bbox"], obj["bbox"], extra) > best_iou:
                best, best_iou = j, overlap(row["bbox"], obj["bbox"], extra)
        if best_iou >= iou_thr and hard[best]:
            continue
        if best_iou >= iou_thr and not taken[best]:
            taken[best] = True
            true += 1
        else:
            false += 1
        curve.append((true / total, true / (true + false)))
    eleven = sum(max([p for r, p in curve if r >= i / 10], default=0.0) for i in range(11)) / 11
    area, reached = 0.0, 0.0
    for recall in sorted({r for r, _ in curve}):
        area += (recall - reached) * max(p for r, p in curve if r >= recall)
        reached = recall
    return eleven, area


@pytest.mark.parametrize("iou_thr", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_form(seed: int, iou_thr: float) -> None:
    annotations, detections = random_detections(seed, num_images=30)
    rng = np.random.default_rng(seed)
    for row in annotations["annotations"]:
        row["difficult"], row["ignore"] = int(rng.random() < 0.15), int(rng.random() < 0.05)
    for inclusive in (False, True):
        ours = voc_ap(annotations, detections, iou_thr, inclusive)
        expected = [naive(annotations, detections, k, iou_thr, float(inclusive)) for k in range(5)]
        got = [(row.ap_11_point, row.ap_every_point) for row in ours.per_class]
        np.testing.assert_allclose(got, expected, atol=1e-12, equal_nan=True)
        means = np.nanmean(np.array(expected), axis=0)
        np.testing.assert_allclose([ours.map_11_point, ours.map_every_point], means, atol=1e-12)


def test_a_detection_belongs_to_the_object_it_overlaps_most() -> None:
    """COCO would give the second detection the free neighbour; VOC calls it a duplicate."""
    boxes = ([0, 0, 10, 10], [0, 3, 10, 10])
    annotations = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)],
    }
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [0, 1, 10, 10], "score": 0.8},
    ]
    assert voc_ap(annotations, detections).map_every_point == pytest.approx(0.5)


def test_without_objects_there_is_no_value() -> None:
    annotations, detections = random_detections(0)
    empty = voc_ap({**annotations, "annotations": []}, detections)
    assert np.isnan(empty.map_11_point)
    assert json.loads(json.dumps(empty.to_dict(), allow_nan=False))["map_every_point"] is None
    assert voc_ap(annotations, []).map_every_point == 0
    with pytest.raises(ValueError, match=r"iou_thr must be in \(0, 1\], got 0"):
        voc_ap(annotations, detections, iou_thr=0)
