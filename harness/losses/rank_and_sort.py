"""The ranking and sorting errors of positives, with the error-driven gradient of Rank & Sort loss."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.core.precision import double_precision
from harness.losses.columns import target_column
from harness.losses.ranking import DominanceSums, RampSums
from harness.losses.whole_batch import WholeBatch

EPS = 1e-5  # less than this much disorder moves nothing


class Ranked(NamedTuple):
    """The logits of a batch as a ranking problem; ``T`` slots, ``M = T * columns`` logits."""

    logits: Tensor  # (M,)
    negative: Tensor  # (M,) bool: columns that are off, of slots that exist
    own: Tensor  # (T,) the logit of the column that is on; any, where none is
    positive: Tensor  # (T,) bool: slots that exist and have a column that is on
    place: Tensor  # (T,) int64: of ``own`` in ``logits``


def as_ranking(logits: Tensor, target: Tensor, weight: Tensor | None) -> Ranked:
    """Every column of every slot of the batch in one ranking; a slot of weight 0 takes no part in it.

    Args:
        logits: ``(*, S, C)``, at least one of them.
        target: ``(*, S)`` int64; outside 0..C-1 no column is on.
        weight: ``(*, S)``.
    """
    index, on = target_column(logits, target)
    exists = torch.ones_like(on) if weight is None else (weight > 0).unsqueeze(-1)
    negative = exists & ~torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, on)
    index = index.flatten()
    return Ranked(
        logits.flatten(),
        negative.flatten(),
        logits.flatten(0, -2).gather(-1, index.unsqueeze(-1)).squeeze(-1),
        (on & exists).flatten(),
        index + torch.arange(len(index), device=index.device) * logits.shape[-1],
    )


def rank_and_sort(
    logits: Tensor, target: Tensor, quality: Tensor, weight: Tensor | None, delta: float, bucketed: bool
) -> tuple[Tensor, Tensor]:
    """The ranking error and the sorting error of each positive slot, ``(*, S)`` each, 0 in the others.

    The gradient of either is hand-written, not the derivative of the value, which is flat almost everywhere.

    Args:
        logits: ``(*, S, C)``.
        target: ``(*, S)`` int64; outside 0..C-1 no column is on.
        quality: ``(*, S)`` in (0, 1], by which the positives are to be sorted.
        weight: ``(*, S)``; a slot of weight 0 takes no part.
        delta: half the width of the band in which two logits count as partly out of order, >= 0.
        bucketed: rank the negatives between two neighboring positives by their mean logit.
    """
    batch = WholeBatch(target.shape)
    every = batch.gather(target, -1)
    if every.numel() == 0:
        nothing = logits.sum(-1)
        return nothing, nothing
    logits, quality = batch.gather(logits, 0), batch.gather(quality, 1).flatten()
    ranked = as_ranking(logits, every, batch.weight(weight, logits))
    # A CPU need not be waited for, so only the positives are sorted by quality: several times as fast.
    places = None if _is_static(logits) else ranked.positive.nonzero().squeeze(1)
    if places is None or len(places) == 0:
        ranking, sorting = _RankAndSort.apply(*ranked, quality, delta, bucketed)
    else:
        few = Ranked(ranked.logits, ranked.negative, *(part[places] for part in ranked[2:]))
        parts = _RankAndSort.apply(*few, quality[places], delta, bucketed)
        nothing = torch.zeros_like(ranked.own)
        ranking, sorting = (nothing.index_copy(0, places, part) for part in parts)
    return batch.own(ranking).view(target.shape), batch.own(sorting).view(target.shape)


def _is_static(logits: Tensor) -> bool:
    return logits.device.type != "cpu" or torch.compiler.is_compiling()


class _RankAndSort(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        negative: Tensor,
        own: Tensor,
        positive: Tensor,
        place: Tensor,
        quality: Tensor,
        delta: float,
        bucketed: bool,
    ) -> tuple[Tensor, Tensor]:
        score, ours, quality = double_precision(logits), double_precision(own), double_precision(quality)
        if bucketed:
            score = bucket_means(score, negative, ours, positive, delta)
        count = positive.to(ours.dtype)
        mass = torch.stack((count, count * (1 - quality)))
        false = RampSums(score, delta).above(negative.to(score.dtype), ours)
        above, gap = RampSums(ours, delta).above(mass, ours)
        wrong, wrong_gap = DominanceSums(ours, quality, delta).above_with_smaller_key(mass)

        ranking = (false / (above + false)).where(positive, 0.0)
        sorting = (gap / above - (gap - wrong_gap) / (above - wrong)).where(positive, 0.0)
        ctx.delta = delta
        ctx.save_for_backward(
            score,
            negative,
            ours,
            positive,
            place,
            quality,
            (ranking / false).where(positive & (false > EPS), 0.0),
            ranking.where(false > EPS, 0.0),
            (sorting / wrong).where(positive & (wrong > EPS), 0.0),
            sorting.where(wrong > EPS, 0.0),
        )
        # 0, or NaN where the logit is not finite, which must not pass silently.
        silent = (ours - ours).where(positive, 0.0) + (score - score).where(negative, 0.0).sum()
        return (ranking + silent).to(own.dtype), sorting.to(own.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        score, negative, ours, positive, place, quality, *shares = ctx.saved_tensors
        rank_share, rank_error, sort_share, sort_error = shares
        to_rank, to_sort = (double_precision(gradient) for gradient in gradients)
        pushed = RampSums(ours, ctx.delta).below(rank_share * to_rank, score).where(negative, 0.0)
        pulled = DominanceSums(ours, quality, ctx.delta).below_with_larger_key(sort_share * to_sort)
        own = pulled.where(positive, 0.0) - rank_error * to_rank - sort_error * to_sort
        update = pushed.index_add(0, place, own)
        return (update.to(gradients[0].dtype), *[None] * 7)


def bucket_means(score: Tensor, negative: Tensor, own: Tensor, positive: Tensor, delta: float) -> Tensor:
    """``(M,)``: the negatives' scores, each replaced by the mean of those between the same two positives.

    Negatives out of reach of the lowest positive belong to no bucket and keep their score.
    """
    bounds = own.masked_fill(~positive, torch.inf).sort().values
    reached = negative & (score >= bounds[0] - delta)
    bucket = torch.searchsorted(bounds, score)
    size = torch.zeros(len(own) + 1, dtype=score.dtype, device=score.device)
    total = size.index_add(0, bucket, score.where(reached, 0.0))
    size = size.index_add(0, bucket, reached.to(score.dtype))
    return (total / size.clamp(min=1))[bucket].where(reached, score)
