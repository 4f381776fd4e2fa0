"""Bucketed Rank & Sort loss: the negatives between two positives count as one."""

from __future__ import annotations

from typing import ClassVar

from harness.losses.classification.rank_sort import RankSortLoss


class BucketedRankSortLoss(RankSortLoss):
    """:class:`RankSortLoss` with the negatives between two neighboring positives at their mean logit (Yavuz et al.
    2024, "Bucketed ranking-based losses", section 3).

    The gradient of a bucket is shared equally among its negatives. The authors bucket for speed; here both forms sort
    once, so that they cost the same, and differ in their gradients only. The ranking error alone is the paper's
    bucketed AP loss.

    Args:
        delta: as for :class:`RankSortLoss`.

    Raises:
        ValueError: ``delta`` below 0.
    """

    bucketed: ClassVar[bool] = True
