"""Candidates that match several objects, as the losses of YOLOv5 and YOLOv7 train them: a slot for each match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from harness.core.structures import Assigner, Candidates, GroundTruth, SamplingResult
from harness.core.topk import highest_of_each

MOST = 45  # matches of an object that are kept: three cells, three anchors, five levels


class MatchingAssigner(Assigner, Protocol):
    """An assigner that tells the whole relation of which the assignment keeps one object per candidate."""

    def matches(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` int64: how often the candidate is matched to the object."""


@dataclass(frozen=True)
class Matches:
    """The matched pairs of a batch; a pair that is matched twice weighs 2."""

    sample: SamplingResult  # (B, T) the candidates of the pairs, all positive where used
    gt_index: Tensor  # (B, T) their objects


def every_match(assigner: Assigner, truth: GroundTruth, candidates: Candidates) -> Matches:
    """All matches of ``(B, G)`` objects and ``(B, N)`` candidates, at most ``MOST`` for each object on average.

    Raises:
        TypeError: the assigner tells no more than one object per candidate.
    """
    if not hasattr(assigner, "matches"):
        raise TypeError(f"{type(assigner).__name__} matches a candidate to one object only; set loss.every_match=false")
    times = cast(MatchingAssigner, assigner).matches(truth, candidates)
    objects, count = times.shape[-2:]
    times = times.flatten(-2)
    pair = highest_of_each(times.float(), min(times.shape[-1], MOST * objects))
    weight = times.gather(-1, pair).to(candidates.boxes.dtype)
    sample = SamplingResult(pair % max(count, 1), weight > 0, weight)
    return Matches(sample, torch.div(pair, max(count, 1), rounding_mode="floor"))
