"""Reliability bins against counting by hand, and PR curves against the AP they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.evaluation.accuracy import evaluate
from harness.evaluation.calibration import Calibration, calibration
from harness.evaluation.coco_format import read_tables
from harness.evaluation.coco_metrics import coco_curves
from harness.evaluation.pr_curves import precision_recall
from harness.evaluation.tide import classify_errors
from tests.evaluation.random_detections import random_detections


def far_apart(scores: list[float], right: list[bool]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One image a detection: right ones sit on the object, wrong ones beside it."""
    images = [{"id": i} for i in range(len(scores))]
    rows = [{"id": i, "image_id": i, "category_id": 0, "bbox": [0, 0, 10, 10]} for i in range(len(scores))]
    found = [
        {"image_id": i, "category_id": 0, "bbox": [0 if ok else 50, 0, 10, 10], "score": s}
        for i, (s, ok) in enumerate(zip(scores, right, strict=True))
    ]
    return {"images": images, "annotations": rows, "categories": [{"id": 0}]}, found


def test_by_hand() -> None:
    ours = calibration(*far_apart([0.0, 0.5, 0.55, 0.6, 1.0], [False, True, False, True, True]), num_bins=2)
    first, second = ours.bins
    assert (first.count, second.count) == (2, 3)  # .5 closes the first bin
    assert first.confidence == pytest.approx(0.25)
    assert first.precision == pytest.approx(0.5)
    assert second.confidence == pytest.approx(2.15 / 3)
    assert second.precision == pytest.approx(2 / 3)
    assert ours.d_ece == pytest.approx(2 / 5 * 0.25 + 3 / 5 * 0.05)
    assert ours.max_error == pytest.approx(0.25)


def test_honest_scores_have_a_small_error_and_bold_ones_a_large_one() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(4000)
    honest = calibration(*far_apart(scores.tolist(), (rng.random(4000) < scores).tolist()))
    bold = calibration(*far_apart(scores.tolist(), (rng.random(4000) < scores**3).tolist()))
    assert honest.d_ece < 0.03
    assert bold.d_ece == pytest.approx(np.mean(scores - scores**3), abs=0.03)


def naive_error(ours: Calibration, document: Any, min_score: float) -> float:
    annotations, detections = document
    labels = classify_errors(annotations, detections).labels
    rows = [
        (row["score"], label == "true_positive")
        for row, label in zip(detections, labels, strict=True)
        if label != "ignored" and row["score"] >= min_score
    ]
    assert ours.num_detections == len(rows)
    error = 0.0
    for i in range(10):
        inside = [r for r in rows if i / 10 < r[0] <= (i + 1) / 10 or (i == 0 and r[0] == 0)]
        if inside:
            error += len(inside) / len(rows) * abs(np.mean([r[0] for r in inside]) - np.mean([r[1] for r in inside]))
    return error


@pytest.mark.parametrize("min_score", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_equals_counting(seed: int, min_score: float) -> None:
    document = random_detections(seed)
    ours = calibration(*document, min_score=min_score)
    assert ours.d_ece == pytest.approx(naive_error(ours, document, min_score), abs=1e-12)


def test_no_detections_and_refusals() -> None:
    annotations, detections = random_detections(0)
    assert np.isnan(calibration(annotations, []).d_ece)
    assert calibration(annotations, []).to_dict()["bins"][0]["precision"] is None
    with pytest.raises(ValueError, match="num_bins must be >= 1, got 0"):
        calibration(annotations, detections, num_bins=0)
    with pytest.raises(ValueError, match=r"iou_thr must be in \(0, 1\], got 2"):
        calibration(annotations, detections, iou_thr=2)
    detections[0]["score"] = -1.0
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
        calibration(annotations, detections)


def test_curves_average_to_the_ap() -> None:
    document = random_detections(3)
    tables = read_tables(*document)
    curves = precision_recall(coco_curves(tables), tables.category_names, (0.5, 0.75, 0.95))
    accuracy = evaluate(*document)
    assert curves.categories == tuple(f"category {k}" for k in range(4))  # the fifth has no object
    assert curves.mean()[0].mean() == pytest.approx(accuracy.map50)
    assert curves.mean()[1].mean() == pytest.approx(accuracy.map75)
    np.testing.assert_allclose(curves.precision[0].mean(-1), [row.ap50 for row in accuracy.per_class[:4]])
    assert (np.diff(curves.precision, axis=-1) <= 1e-12).all()
    assert curves.to_dict()["curves"][0]["category"] == "mean"
    with pytest.raises(ValueError, match=r"iou_thrs must be among .50, .55"):
        precision_recall(coco_curves(tables), tables.category_names, (0.52,))
