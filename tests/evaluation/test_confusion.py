"""The confusion matrix and the errors of each image, against counts made by hand and a naive F1."""

import numpy as np
import pytest

from harness.evaluation.coco_format import read_tables
from harness.evaluation.confusion import best_f1_score, detected

CATEGORIES = [{"id": 1, "name": "disc"}, {"id": 2, "name": "star"}]


def _tables(objects, detections):
    """``objects``: (image, category, x, crowd); ``detections``: (image, category, x, score); all boxes are 10 x 10."""
    annotations = {
        "images": [{"id": 0}, {"id": 1}],
        "categories": CATEGORIES,
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": crowd}
            for i, (image, category, x, crowd) in enumerate(objects, start=1)
        ],
    }
    rows = [
        {"image_id": image, "category_id": category, "bbox": [x, 0, 10, 10], "score": score}
        for image, category, x, score in detections
    ]
    return read_tables(annotations, rows)


def test_counts_of_found_confused_missed_and_made_up():
    objects = [(0, 1, 0, 0), (0, 2, 20, 0), (0, 1, 40, 0), (1, 2, 0, 0), (1, 1, 50, 1)]
    detections = [
        (0, 1, 0, 0.9),  # finds the first disc
        (0, 1, 1, 0.8),  # a duplicate of it: made up
        (0, 1, 21, 0.7),  # takes the star for a disc
        (1, 2, 80, 0.6),  # no object there
        (1, 1, 50, 0.5),  # on a crowd: counts as nothing
        (1, 2, 0, 0.1),  # would find the second star, but its score is too low
    ]
    found = detected(_tables(objects, detections), 0.5)
    assert found.matrix().tolist() == [[1, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert found.errors.tolist() == [2 + 2, 1 + 1]
    assert found.kept.tolist() == [0, 1, 2, 3, 4]
    assert found.object.tolist() == [0, -1, 1, -1, -1]


def test_a_right_class_wins_an_object_before_a_wrong_one():
    objects = [(0, 1, 0, 0), (0, 2, 3, 0)]
    detections = [(0, 2, 0, 0.9), (0, 1, 0, 0.4)]  # the star overlaps the disc more, but both find their own
    assert detected(_tables(objects, detections), 0.1).matrix().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_one_object_is_confused_once():
    objects = [(0, 1, 0, 0)]
    detections = [(0, 2, 0, 0.9), (0, 2, 1, 0.8)]
    assert detected(_tables(objects, detections), 0.1).matrix().tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_the_score_of_the_best_f1_is_that_of_a_naive_search(seed):
    rng = np.random.default_rng(seed)
    objects = [(int(rng.integers(2)), int(rng.integers(1, 3)), 20 * k, 0) for k in range(12)]
    near = [(image, category, x + float(rng.uniform(-4, 4)), float(rng.random())) for image, category, x, _ in objects]
    places = [(int(rng.integers(2)), int(rng.integers(1, 3)), float(rng.uniform(0, 240))) for _ in range(20)]
    detections = [*near, *((*place, float(rng.random())) for place in places)]
    tables = _tables(objects, detections)

    def f1(score):
        found = detected(tables, score)
        right = int(np.trace(found.matrix()[:2, :2]))
        return 2 * right / (len(found.kept) + len(objects))

    best = max(f1(score) for _, _, _, score in detections)
    assert f1(best_f1_score(tables)) == pytest.approx(best)


def test_without_a_right_detection_there_is_no_score():
    assert np.isnan(best_f1_score(_tables([(0, 1, 0, 0)], [(0, 2, 0, 0.9)])))
    assert np.isnan(best_f1_score(_tables([(0, 1, 0, 0)], [])))
