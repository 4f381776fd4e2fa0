"""Where the noise of a method's mAP comes from: the seed of its training, or the images that it was scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.comparison import Row, Section
from harness.report.frame import RunTable
from harness.report.image_noise import match_table, runs_with_seed
from harness.report.reading import UnreadableError
from harness.statistics import Pairing, VarianceSplit, pairing, resampled_scores, split_variance

MOST_METHODS = 4  # besides their baselines
MOST_SEEDS = 10  # of a method
FEWEST_SEEDS = 3  # two say next to nothing about their own spread
_MOST_IMAGES = 60_000  # evaluated, over all runs: about a minute; of more, fewer seeds are read
_RESAMPLES = 100


@dataclass(frozen=True)
class Split:
    """The variance of one method's mAP, or of the difference of two methods, in parts."""

    label: str
    parts: VarianceSplit


@dataclass(frozen=True)
class Paired:
    """What it is worth that a method and its baseline were trained with the same seeds."""

    label: str
    baseline: str
    value: Pairing


@dataclass(frozen=True)
class Variance:
    """All of one context, and what could not be read."""

    methods: tuple[Split, ...] = ()
    differences: tuple[Split, ...] = ()
    pairings: tuple[Paired, ...] = ()
    notes: tuple[str, ...] = ()


def variance_of(table: RunTable, section: Section) -> Variance:
    """Splits the variance of the baselines and the best methods that have at least three seeds.

    mAP is computed anew on resampled images, from the predictions of each run.
    """
    if section.metric.column != "map" or section.nothing_learned:
        return Variance()
    compared = [(row, section.row(one.baseline), one.seeds) for row, one in section.compared]
    pairs = [pair for pair in compared if len(pair[2]) >= FEWEST_SEEDS][:MOST_METHODS]
    if not pairs:
        alone = [row for row in section.rows if len(row.scores) >= FEWEST_SEEDS][:MOST_METHODS]
        pairs = [(row, row, tuple(row.scores)) for row in alone]
    if not pairs:
        return Variance()
    try:
        return _split(pairs, _Scores(table, section.context.done[0], len(pairs)))
    except UnreadableError as why:
        return Variance(notes=(f"The variance is not split: {why}.",))
    except (ValueError, TypeError, OverflowError) as error:
        return Variance(notes=(f"The variance is not split: {' '.join(str(error).split())[:200]}",))


def _split(pairs: Sequence[tuple[Row, Row, tuple[int | str, ...]]], scores: _Scores) -> Variance:
    methods: dict[str, Split] = {}
    differences, pairings = [], []
    for row, baseline, all_seeds in pairs:
        seeds = all_seeds[: scores.seeds]
        ours, theirs = (np.array([scores.of(one, seed) for seed in seeds]) for one in (row, baseline))
        for one, values in ((baseline, theirs), (row, ours)):
            methods.setdefault(one.label, Split(one.label, _parts(values, scores.images)))
        if row is not baseline:
            differences.append(Split(f"{row.label} − {baseline.label}", _parts(ours - theirs, scores.images)))
            pairings.append(Paired(row.label, baseline.label, pairing(ours[:, 0], theirs[:, 0])))
    return Variance(tuple(methods.values()), tuple(differences), tuple(pairings))


def _parts(values: NDArray[np.float64], images: int) -> VarianceSplit:
    return split_variance(values[:, 1:], values[:, 0], images)


class _Scores:
    """mAP of runs on the images as they are and on resampled ones, the same resamples for every run."""

    def __init__(self, table: RunTable, any_run: int, pairs: int) -> None:
        self.images = match_table(table, any_run).num_images
        within = _MOST_IMAGES // max(1, self.images * 2 * pairs)
        self.seeds = min(MOST_SEEDS, max(FEWEST_SEEDS, within))
        self._table = table
        self._known: dict[int, NDArray[np.float64]] = {}

    def of(self, row: Row, seed: int | str) -> NDArray[np.float64]:
        """``(1 + resamples,)``; of several runs with one seed the first counts."""
        run = runs_with_seed(self._table, row.method.done, seed)[0]
        if run not in self._known:
            (self._known[run],) = resampled_scores([match_table(self._table, run)], resamples=_RESAMPLES)
        return self._known[run]
