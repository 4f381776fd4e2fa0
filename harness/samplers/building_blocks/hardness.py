"""How hard a candidate is: its loss under the current weights. And the hardest candidates of an image or a batch."""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor

from harness.core import limits
from harness.core.structures import SamplingResult
from harness.core.topk import among, largest, order_code
from harness.samplers.building_blocks.ranker import Pool


class RankBy(StrEnum):
    """Which loss ranks."""

    CLS = "cls"  # the classification loss alone (mmdetection's default)
    TOTAL = "total"  # with the loss of the box (Shrivastava 2016, section 4)


def parse_rank_by(value: str) -> RankBy:
    """The member of that value.

    Raises:
        ValueError: there is none.
    """
    return RankBy(limits.one_of("rank_by", value, RankBy))


def hardness(pool: Pool, rank_by: RankBy) -> Tensor:
    """``(*, N)`` losses of the candidates. +inf ranks first, NaN last: what cannot be compared is never preferred.

    Raises:
        ValueError: no losses were given.
    """
    if pool.losses is None:
        raise ValueError("the sampler ranks by loss: pass losses=, the losses of every candidate")
    return (pool.losses.total if rank_by is RankBy.TOTAL else pool.losses.classification).detach()


def hardest(pool: Pool, rank_by: RankBy, num: int) -> SamplingResult:
    """The ``num`` hardest candidates of each image, positives and negatives together, with weight 1."""
    code = among(order_code(hardness(pool, rank_by)), pool.positive | pool.negative)
    index, available = largest(code, min(num, code.shape[-1]))
    index = index.masked_fill(~available, 0)
    return SamplingResult(index, available & pool.positive.gather(-1, index), available.float())
