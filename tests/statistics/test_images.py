"""mAP of resampled images equals a real evaluation of the resampled data set, and the bootstrap its spread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from harness.evaluation.accuracy import evaluate
from harness.evaluation.match_table import MatchTable
from harness.statistics import paired_image_bootstrap
from tests.evaluation.random_detections import random_detections

Document = dict[str, Any]


def repeated(annotations: Document, detections: list[Document], weights: dict[Any, int]) -> Any:
    """The data set in which each image stands as often as its weight says, as plain files would hold it."""
    images, objects, results = [], [], []
    for image, times in weights.items():
        for copy in range(times):
            new = {"image_id": f"{image:03d}-{copy}"}
            images.append({"id": new["image_id"]})
            objects += [row | new for row in annotations["annotations"] if row["image_id"] == image]
            results += [row | new for row in detections if row["image_id"] == image]
    objects = [row | {"id": i + 1} for i, row in enumerate(objects)]
    return {"images": images, "annotations": objects, "categories": annotations["categories"]}, results


@pytest.mark.parametrize("seed", range(6))
def test_weighted_map_equals_evaluating_the_resampled_files(seed: int) -> None:
    annotations, detections = random_detections(seed, ties=False)
    table = MatchTable.from_coco(annotations, detections)
    rng = np.random.default_rng(seed)
    for _ in range(3):
        weights = rng.multinomial(table.num_images, np.full(table.num_images, 1 / table.num_images))
        document = repeated(annotations, detections, dict(zip(table.image_ids, weights.tolist(), strict=True)))
        expected = evaluate(*document, backend="pycocotools")
        assert table.mean_average_precision(weights) == pytest.approx(expected.map, abs=1e-9)
        ap = table.average_precision(weights).mean(0)
        np.testing.assert_allclose(ap, [row.ap for row in expected.per_class], atol=1e-9, equal_nan=True)


def worse(detections: list[Document], shift: float) -> list[Document]:
    """The same detections with boxes off by a share of their width."""
    return [{**d, "bbox": [d["bbox"][0] + shift * d["bbox"][2], *d["bbox"][1:]]} for d in detections]


def test_a_clear_difference_is_clear_and_none_is_none() -> None:
    annotations, detections = random_detections(0, num_images=150)
    good = MatchTable.from_coco(annotations, detections)
    bad = MatchTable.from_coco(annotations, worse(detections, 0.2))
    result = paired_image_bootstrap(good, bad, resamples=100)
    assert result.difference == pytest.approx(good.mean_average_precision() - bad.mean_average_precision())
    assert 0 < result.interval[0] < result.difference < result.interval[1]
    assert result.share_positive == 1.0
    assert "not" in result.meaning or "nothing" in result.meaning
    assert result == paired_image_bootstrap(good, bad, resamples=100)
    same = paired_image_bootstrap(good, good, resamples=20)
    assert (same.difference, same.interval, same.standard_error, same.share_positive) == (0.0, (0.0, 0.0), 0.0, 0.5)


def test_the_spread_is_that_of_fresh_test_sets() -> None:
    """Standard error over 100 independent test sets of one distribution (known to 7 %), against the bootstrap's on
    eight of them (known to 5 %): three standard errors are a quarter."""
    differences, errors = [], []
    for seed in range(100):
        annotations, detections = random_detections(100 + seed, num_images=150)
        pair = [MatchTable.from_coco(annotations, rows) for rows in (detections, worse(detections, 0.2))]
        differences.append(pair[0].mean_average_precision() - pair[1].mean_average_precision())
        if seed < 8:
            errors.append(paired_image_bootstrap(*pair, resamples=60).standard_error)
    assert np.mean(errors) == pytest.approx(np.std(differences, ddof=1), rel=0.25)


def test_refusals_and_emptiness() -> None:
    annotations, detections = random_detections(0)
    table = MatchTable.from_coco(annotations, detections)
    with pytest.raises(ValueError, match="same images and categories"):
        paired_image_bootstrap(table, MatchTable.from_coco(*random_detections(0, num_images=10)))
    with pytest.raises(ValueError, match="resamples must be >= 1, got 0"):
        paired_image_bootstrap(table, table, resamples=0)
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 2"):
        paired_image_bootstrap(table, table, level=2)
    nothing = MatchTable.from_coco({"images": [], "annotations": [], "categories": []}, [])
    assert np.isnan(nothing.mean_average_precision())
    assert paired_image_bootstrap(nothing, nothing, resamples=3).to_dict()["interval"] == [None, None]


def test_two_hundred_resamples_of_two_hundred_images_are_quick() -> None:
    annotations, detections = random_detections(0, num_images=200, num_categories=6)
    table = MatchTable.from_coco(annotations, detections)
    start = time.process_time()
    paired_image_bootstrap(table, table, resamples=200)
    assert time.process_time() - start < 5
