"""Whether a difference between methods is real.

`compare` pairs methods with a baseline by seed and gives verdicts that may be looked at after every seed. The other
functions are its parts, fixed-sample tests and intervals, power, aggregates over data sets, and the bootstrap over
images. ``docs/statistics.md`` explains the method and shows its measured error rates.
"""

from harness.statistics.aggregate import interquartile_mean, probability_of_improvement, stratified_bootstrap
from harness.statistics.comparison import Comparison, compare
from harness.statistics.evidence import confidence_sequence, fewest_seeds, log_evidence, running_p, running_p_outside
from harness.statistics.expectation import FurtherSeeds, expected_further_seeds
from harness.statistics.image_bootstrap import ImageBootstrap, paired_image_bootstrap
from harness.statistics.intervals import bca_interval, t_interval
from harness.statistics.learned import NOTHING_LEARNED, is_accuracy, least_learned, nothing_learned
from harness.statistics.paired_tests import holm, paired_t_test, sign_flip_floor, sign_flip_test
from harness.statistics.power import paired_t_power, seeds_for_power
from harness.statistics.standing import BEST, Standing, against_baseline, best_of, compared_with_best
from harness.statistics.variance_split import Pairing, VarianceSplit, pairing, resampled_scores, split_variance
from harness.statistics.verdicts import (
    BETTER,
    OPEN,
    SAME,
    TESTS,
    WORSE,
    Decision,
    decide,
    fewest_pairs,
    verdict_text,
)

__all__ = [
    "BEST",
    "BETTER",
    "NOTHING_LEARNED",
    "OPEN",
    "SAME",
    "TESTS",
    "WORSE",
    "Comparison",
    "Decision",
    "FurtherSeeds",
    "ImageBootstrap",
    "Pairing",
    "Standing",
    "VarianceSplit",
    "against_baseline",
    "bca_interval",
    "best_of",
    "compare",
    "compared_with_best",
    "confidence_sequence",
    "decide",
    "expected_further_seeds",
    "fewest_pairs",
    "fewest_seeds",
    "holm",
    "interquartile_mean",
    "is_accuracy",
    "least_learned",
    "log_evidence",
    "nothing_learned",
    "paired_image_bootstrap",
    "paired_t_power",
    "paired_t_test",
    "pairing",
    "probability_of_improvement",
    "resampled_scores",
    "running_p",
    "running_p_outside",
    "seeds_for_power",
    "sign_flip_floor",
    "sign_flip_test",
    "split_variance",
    "stratified_bootstrap",
    "t_interval",
    "verdict_text",
]
