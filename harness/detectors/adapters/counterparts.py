"""Our pieces with the parameters of torchvision's, which a built detector carries."""

from __future__ import annotations

from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from harness.assigners.torchvision import TorchvisionMatcher
from harness.samplers.random import RandomSampler


def assigner_like(matcher: Matcher) -> TorchvisionMatcher:
    """Our assigner with the thresholds of torchvision's matcher."""
    return TorchvisionMatcher(matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches)


def sampler_like(sampler: BalancedPositiveNegativeSampler) -> RandomSampler:
    """Our random sampler with the quota of torchvision's."""
    return RandomSampler(num=sampler.batch_size_per_image, pos_fraction=sampler.positive_fraction)
