"""Parts of the variance recovered from data whose parts are known; mAP resampled; what pairing is worth."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.match_table import MatchTable
from harness.statistics import pairing, resampled_scores, split_variance
from tests.evaluation.random_detections import random_detections


def test_known_parts_are_recovered() -> None:
    """Scores that are means over images of image effects and seed-by-image effects, plus a seed effect."""
    rng = np.random.default_rng(0)
    n, m, resamples = 8, 60, 60
    sd_seed, sd_image, sd_both = 0.02, 0.3, 0.2
    found = []
    for _ in range(300):
        values = sd_image * rng.normal(size=m) + sd_both * rng.normal(size=(n, m)) + sd_seed * rng.normal(size=(n, 1))
        weights = rng.multinomial(m, np.full(m, 1 / m), resamples) / m
        split = split_variance(values @ weights.T, values.mean(1), m)
        found.append((split.seed, split.images, split.both))
    expected = np.array([sd_seed**2, sd_image**2 / m, sd_both**2 / m])
    np.testing.assert_allclose(np.mean(found, 0), expected, rtol=0.2)


def test_which_purchase_is_better() -> None:
    rng = np.random.default_rng(1)
    noise = 0.001 * rng.normal(size=(5, 50))
    many_seeds = split_variance(noise + 0.05 * rng.normal(size=(1, 50)), np.linspace(0.5, 0.501, 5), 100)
    assert many_seeds.better_purchase == "images"
    assert many_seeds.standard_error_with(10**6, 100) == pytest.approx(many_seeds.images**0.5, rel=1e-3)
    few_images = split_variance(noise, np.linspace(0.4, 0.6, 5), 100)
    assert few_images.better_purchase == "seeds"
    assert few_images.standard_error == few_images.standard_error_with(5, 100)
    assert few_images.standard_error_with(5, 10**9) == pytest.approx((few_images.seed / 5) ** 0.5, rel=1e-3)


def test_map_is_resampled_with_the_same_images_for_all() -> None:
    annotations, detections = random_detections(0, num_images=30)
    table = MatchTable.from_coco(annotations, detections)
    other = MatchTable.from_coco(annotations, random_detections(1, num_images=30)[1])
    rows = resampled_scores([table, other, table], resamples=12)
    assert rows.shape[0] == 3
    np.testing.assert_array_equal(rows[0], rows[2])
    assert rows[0, 0] == table.mean_average_precision()
    assert rows[0, 1:].std() > 0
    differences = resampled_scores([table, other], [other, other], resamples=12)
    np.testing.assert_allclose(differences, rows[:2] - rows[1])
    with pytest.raises(ValueError, match="2 tables and 1 baselines"):
        resampled_scores([table, other], [table])


def test_pairing() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=2000)
    a, b = (np.sqrt(3) * shared + rng.normal(size=2000) for _ in range(2))
    found = pairing(a, b)
    assert found.correlation == pytest.approx(0.75, abs=0.03)
    assert found.seeds_saved == pytest.approx(4, rel=0.1)  # variance 8 unpaired, 2 paired
    assert pairing([1.0, 2.0], [1.0, 2.0]).seeds_saved == np.inf
    assert np.isnan(pairing([1.0, 1.0], [1.0, 2.0]).correlation)


def test_refusals() -> None:
    for rows, scores in (([[0.1, 0.2]], [0.1]), ([[0.1], [0.2]], [0.1, 0.2]), ([[0.1, 0.2]] * 2, [0.1])):
        with pytest.raises(ValueError, match="resampled must be"):
            split_variance(rows, scores, 10)
    with pytest.raises(ValueError, match="two rows of at least 2 scores"):
        pairing([0.1], [0.2])
