"""TopkHungarianAssigner against all matchings of a small scene."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from harness.assigners.building_blocks.padding import clean
from harness.assigners.topk_hungarian import TopkHungarianAssigner
from harness.core.structures import NEGATIVE
from tests.assigners.pairs import pairs
from tests.assigners.scenes import matchable, scene


def cheapest(cost: list[list[float]], times: int) -> tuple[float, list[int]]:
    """Over every way to give each of the objects ``times`` candidates: the least total cost, and who has whom."""
    objects, count = len(cost), len(cost[0])
    best = (float("inf"), [NEGATIVE] * count)
    for chosen in permutations(range(count), objects * times):
        total = sum(cost[slot // times][n] for slot, n in enumerate(chosen))
        if total < best[0]:
            answer = [NEGATIVE] * count
            for slot, n in enumerate(chosen):
                answer[n] = slot // times
            best = total, answer
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("times", [1, 2, 3])
def test_equals_the_cheapest_of_all_matchings(seed: int, times: int) -> None:
    truth, candidates = scene(seed, objects=2, count=7)
    assigner = TopkHungarianAssigner(topk=times)
    terms = assigner.matcher.costs(*clean(truth, candidates))
    cost = (terms["classification"] + terms["l1"] + terms["iou"]).double().tolist()
    total, answer = cheapest(cost, times)
    found = assigner(truth, candidates).gt_index.tolist()
    assert found == answer
    assert sum(cost[g][n] for n, g in enumerate(found) if g >= 0) == pytest.approx(total)


@pytest.mark.parametrize(("count", "each"), [(20, 4), (9, 3), (2, 1)])
def test_as_many_as_there_are_for_each_object(count: int, each: int) -> None:
    truth, candidates = scene(2, objects=3, count=count)
    found = TopkHungarianAssigner(topk=4)(truth, candidates)
    taken = torch.bincount(found.gt_index[found.positive], minlength=3)
    assert taken.tolist() == [each] * 3 if count >= 3 else taken.sum() == count


def test_quality_is_the_normalized_alignment() -> None:
    truth, candidates = scene(5, objects=4)
    found = TopkHungarianAssigner(topk=3, alpha=1, beta=2)(truth, candidates)
    table = pairs(truth, candidates)
    for g in matchable(truth):
        own = found.gt_index.eq(g).nonzero().flatten().tolist()
        alignment = {n: table[g, n].scores[table[g, n].label] * table[g, n].iou ** 2 for n in own}
        overlap, best = max(table[g, n].iou for n in own), max(alignment.values())
        for n in own:
            assert found.quality[n].item() == pytest.approx(alignment[n] * overlap / (best + 1e-7), rel=1e-3, abs=1e-6)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="topk=0 must be a whole number of at least 1"):
        TopkHungarianAssigner(topk=0)
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="needs the predictions"):
        TopkHungarianAssigner()(truth, candidates.predicted(None))
