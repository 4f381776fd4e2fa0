"""One pass over the IoU of all pairs that keeps only the maxima that threshold assigners read, never the matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from harness.core.boxes import area, pairwise_intersection, pairwise_iou
from harness.core.chunking import by_objects
from harness.core.structures import Candidates, GroundTruth

# What is compared of objects (*, G, 4) and candidates (*, N, 4), a number >= 0 for each pair, (*, G, N).
Similarity = Callable[[Tensor, Tensor], Tensor]

# At the peak of the pass a pair owns four floats: two sides of its intersection, a bound of one, and its union.
BYTES_PER_PAIR = 16


class Claim(Enum):
    """Which candidates an object claims as its best ones."""

    NONE = "none"
    FIRST = "first"  # one, the first of those with its highest IoU
    TIED = "tied"  # all those with its highest IoU


@dataclass(frozen=True)
class Overlaps:
    """The maxima of the IoU (or of another similarity) of objects and candidates."""

    iou: Tensor  # (*, N) with the best object; 0 without objects
    best: Tensor  # (*, N) int64, that object, the first of those with the highest IoU; 0 without
    claimed_by: Tensor  # (*, N) int64, the last object that claims the candidate; -1 where none does


def overlaps(
    truth: GroundTruth,
    candidates: Candidates,
    *,
    memory_bound: int,
    claim: Claim = Claim.NONE,
    eligible: Tensor | None = None,
    worth: Callable[[Tensor], Tensor] | None = None,
    similarity: Similarity = pairwise_iou,
) -> Overlaps:
    """The best object of every candidate, and which object claims it as its own best candidate.

    An object's highest IoU is known once its own row is, so that claims need no second pass over the pairs.

    Args:
        truth: ``(*, G)`` clean objects.
        candidates: ``(*, N)`` clean candidates, N > 0.
        memory_bound: bytes for the pairs worked on at once.
        claim: which candidates an object claims.
        eligible: ``(*, N)`` bool, the candidates that may be claimed; all valid ones by default.
        worth: of an object's highest IoU ``(*, G)``, whether the object may claim at all; always by default.
        similarity: what is compared in the place of the IoU.
    """
    boxes = candidates.boxes
    iou = boxes.new_full(candidates.valid.shape, -torch.inf)
    best = torch.zeros_like(candidates.valid, dtype=torch.int64)
    claimed_by = best - 1
    barred = _penalty(candidates.valid if eligible is None else eligible & candidates.valid, boxes.dtype)
    for start, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=memory_bound):
        pairs = similarity(some.boxes, boxes)
        pairs += _penalty(some.matchable, boxes.dtype).unsqueeze(-1)
        highest = pairs.amax(-2)
        index = first_row(pairs.clone().eq_(highest.unsqueeze(-2)))
        best = torch.where(highest > iou, index + start, best)
        iou = torch.maximum(iou, highest)
        if claim is not Claim.NONE:
            pairs += barred.unsqueeze(-2)
            claims = _claims(pairs, some.matchable, claim, worth)
            claimed_by = torch.where(claims >= 0, claims + start, claimed_by)
    return Overlaps(iou.clamp(min=0), best, claimed_by)


def covered_by_crowd(
    truth: GroundTruth, candidates: Candidates, threshold: float, wrt_candidates: bool, memory_bound: int
) -> Tensor:
    """``(*, N)`` bool: a crowd region covers more than ``threshold`` of the candidate (or the candidate of the region).

    Args:
        truth: ``(*, G)`` clean objects; those that are crowd count.
        candidates: ``(*, N)`` clean candidates.
        threshold: in (0, 1); not above 0 covers nothing.
        wrt_candidates: whether the share is of the candidate's area or of the region's.
        memory_bound: bytes for the pairs worked on at once.
    """
    covered = torch.zeros_like(candidates.valid)
    if threshold <= 0:
        return covered
    for _, some in by_objects(truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=memory_bound):
        whole = area(candidates.boxes).unsqueeze(-2) if wrt_candidates else area(some.boxes).unsqueeze(-1)
        share = pairwise_intersection(some.boxes, candidates.boxes) / whole.clamp(min=1e-6)
        covered = covered | ((share > threshold) & (some.crowd & some.valid).unsqueeze(-1)).any(-2)
    return covered


def _claims(pairs: Tensor, matchable: Tensor, claim: Claim, worth: Callable[[Tensor], Tensor] | None) -> Tensor:
    """``(*, N)`` int64: the last row of ``pairs (*, g, N)`` that claims the candidate, -1 where none does."""
    highest = pairs.amax(-1)
    claiming = matchable & (highest > -torch.inf)
    if worth is not None:
        claiming = claiming & worth(highest)
    if claim is Claim.TIED:
        return last_row(pairs.eq_(torch.where(claiming, highest, torch.inf).unsqueeze(-1)))
    row = torch.arange(pairs.shape[-2], device=pairs.device)
    unclaimed = torch.full((*pairs.shape[:-2], pairs.shape[-1]), -1, dtype=torch.int64, device=pairs.device)
    return unclaimed.scatter_reduce(-1, pairs.argmax(-1), torch.where(claiming, row, -1), "amax")


# torch.max with an index, and comparisons that make bools, take three to ten times as long on a CPU as comparisons in
# place of the floats. A row number is exact in float32 up to 16 million.


def first_row(hits: Tensor) -> Tensor:
    """``(*, N)`` int64: the first row that is 1 in ``hits (*, g, N)`` of 0 and 1, which it overwrites."""
    rows = hits.shape[-2]
    return rows - hits.mul_(_numbers(hits).neg_().add_(rows + 1)).amax(-2).long()


def last_row(hits: Tensor) -> Tensor:
    """``(*, N)`` int64: the last row that is 1 in ``hits (*, g, N)`` of 0 and 1, which it overwrites; -1 without."""
    return hits.mul_(_numbers(hits)).amax(-2).long() - 1


def _numbers(hits: Tensor) -> Tensor:
    """``(g, 1)`` 1, 2, ..."""
    return torch.arange(1, hits.shape[-2] + 1, device=hits.device, dtype=hits.dtype).unsqueeze(-1)


def _penalty(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where allowed, -inf where not: adding it is cheaper than masking, and leaves every other bit as it was."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, -torch.inf)
