"""Where the noise of a score comes from: the seed of training, the finite set of validation images, or both together.

Model: the score (or the difference of two methods) of seed ``s`` on a set of ``m`` images is ``mean + seed_s + images +
both_s``. ``seed_s`` differs between trainings on any images, ``images`` is common to all trainings on one set of images
and shrinks with ``1 / m``, ``both_s`` is the part of the noise of the images that differs between trainings, and
shrinks with ``1 / m``, too. The mean over ``n`` seeds then has the variance ``(seed + both) / n + images``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.evaluation.match_table import MatchTable

SEEDS, IMAGES = "seeds", "images"


@dataclass(frozen=True)
class VarianceSplit:
    """Variances of one run's score, and standard errors of the mean over all runs for new seeds and new images."""

    seeds: int
    num_images: int
    seed: float  # variance between trainings that no number of images removes
    images: float  # variance that all trainings share on one set of so many images
    both: float  # variance between trainings that comes from so few images

    @property
    def standard_error(self) -> float:
        """Of the mean as it is."""
        return self.standard_error_with(self.seeds, self.num_images)

    def standard_error_with(self, seeds: int, num_images: int) -> float:
        """Of the mean over ``seeds`` trainings, each scored on the same ``num_images`` images."""
        share = self.num_images / num_images
        return math.sqrt((self.seed + self.both * share) / seeds + self.images * share)

    @property
    def better_purchase(self) -> str:
        """``seeds`` or ``images``: twice as many of which would make the standard error smaller."""
        twice_seeds = self.standard_error_with(2 * self.seeds, self.num_images)
        twice_images = self.standard_error_with(self.seeds, 2 * self.num_images)
        return SEEDS if twice_seeds <= twice_images else IMAGES


@dataclass(frozen=True)
class Pairing:
    """What it is worth that two methods were trained with the same seeds."""

    n: int
    paired_sd: float  # of the differences of the same seed
    unpaired_sd: float  # of differences of unrelated seeds: sqrt of the sum of both variances
    correlation: float  # of the two methods' scores over seeds; NaN where one of them does not vary

    @property
    def seeds_saved(self) -> float:
        """How many times as many seeds it would take without pairing for the same standard error; below 1: harm."""
        return (self.unpaired_sd / self.paired_sd) ** 2 if self.paired_sd > 0 else float("inf")


def split_variance(resampled: ArrayLike, scores: ArrayLike, num_images: int) -> VarianceSplit:
    """Split the variance of scores into its parts, by analysis of variance.

    Args:
        resampled: ``(seeds, resamples)``: the score of each seed on each bootstrap resample of the images, the same
            images for all seeds (:func:`resampled_scores`).
        scores: ``(seeds,)``: the scores on the images as they are.
        num_images: of the validation set.

    With ``B`` the mean variance of a seed over resamples and ``C`` the variance of the mean over seeds, ``B = images +
    both`` and ``C = images + both / n``. The variance between seeds on the images as they are is ``seed + both``. A
    part whose estimate is negative is 0.

    Raises:
        ValueError: fewer than 2 seeds or resamples, or shapes that do not agree.
    """
    rows, own = np.asarray(resampled, np.float64), np.asarray(scores, np.float64)
    if rows.ndim != 2 or own.shape != rows.shape[:1] or min(rows.shape) < 2:
        raise ValueError(
            f"resampled must be (seeds, resamples) with at least 2 of both and scores (seeds,), got {rows.shape} and "
            f"{own.shape}"
        )
    n = len(own)
    each, mean = float(rows.var(1, ddof=1).mean()), float(rows.mean(0).var(ddof=1))
    both = max(0.0, (each - mean) * n / (n - 1))
    between = float(own.var(ddof=1))
    return VarianceSplit(
        seeds=n,
        num_images=num_images,
        seed=max(0.0, between - both),
        images=max(0.0, each - both),
        both=both,
    )


def resampled_scores(
    tables: Sequence[MatchTable], baselines: Sequence[MatchTable] | None = None, resamples: int = 100, seed: int = 0
) -> NDArray[np.float64]:
    """mAP of each table, or its difference from the baseline of the same seed, on resampled images.

    Returns ``(seeds, 1 + resamples)``; the first column is the score on the images as they are. Each resample draws the
    images anew with replacement, the same ones for all tables. Resamples without any object are left out.

    Raises:
        ValueError: the tables stand on different images or categories, or on another number of seeds.
    """
    every = [*tables, *(baselines or ())]
    if baselines is not None and len(baselines) != len(tables):
        raise ValueError(f"there are {len(tables)} tables and {len(baselines)} baselines: one for each seed is needed")
    if len({(tuple(one.image_ids), tuple(one.category_ids)) for one in every}) != 1:
        raise ValueError("all tables must be scored on the same images and categories")
    n = every[0].num_images
    rng = np.random.default_rng(seed)
    draws = [np.ones(n, np.int64), *(np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(resamples))]
    values = np.array([[one.mean_average_precision(weights) for weights in draws] for one in every])
    differences = values[: len(tables)] - (values[len(tables) :] if baselines is not None else 0.0)
    kept: NDArray[np.float64] = differences[:, ~np.isnan(differences).any(0)]
    return kept


def pairing(ours: ArrayLike, theirs: ArrayLike) -> Pairing:
    """Compare paired with unpaired seeds, from two methods' scores of the same seeds.

    Raises:
        ValueError: fewer than 2 seeds, or two rows of different length.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"two rows of at least 2 scores of the same seeds are needed, got {a.shape} and {b.shape}")
    spread = float(a.std(ddof=1)), float(b.std(ddof=1))
    correlation = float(np.corrcoef(a, b)[0, 1]) if min(spread) > 0 else float("nan")
    return Pairing(len(a), float((a - b).std(ddof=1)), math.hypot(*spread), correlation)
