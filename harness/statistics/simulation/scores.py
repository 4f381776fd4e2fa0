"""Simulated scores: methods x seeds with a shared effect of the seed, and noise of several shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_t(3, shape) / np.sqrt(3)


def _exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 1 - rng.exponential(1, shape)  # most runs are alike, a few are bad


# Name -> (noise of the arms, noise of the baseline), each with mean 0 and variance 1.
NOISES: dict[str, tuple[Draw, Draw]] = {
    "normal": (_normal, _normal),
    "t3": (_t3, _t3),
    "skewed": (_exponential, _exponential),
    "skewed, baseline normal": (_exponential, _normal),
    "discrete": (_normal, _normal),
}
STEP = 0.25  # discrete: scores are multiples of this many standard deviations of a difference


def draw_scores(
    rng: np.random.Generator, repetitions: int, effects: Sequence[float], seeds: int, noise: str = "normal"
) -> Array:
    """Scores of shape ``(repetitions, 1 + len(effects), seeds)``; the first method is the baseline.

    ``effects`` are true differences from the baseline in standard deviations of a paired difference. The effect of the
    seed, shared by all methods, has three times the variance of the rest, so scores of one seed correlate with 0.75;
    all differences share the baseline's noise, so they correlate with 0.5.
    """
    arm, baseline = NOISES[noise]
    shared = np.sqrt(3) * rng.standard_normal((repetitions, 1, seeds))
    own = np.concatenate([baseline(rng, (repetitions, 1, seeds)), arm(rng, (repetitions, len(effects), seeds))], 1)
    scores = (shared + own) / np.sqrt(2)
    if noise == "discrete":
        scores = STEP * np.round(scores / STEP)
    levels: Array = scores + np.array([0.0, *effects])[:, None]
    return levels
