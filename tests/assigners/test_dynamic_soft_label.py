"""DynamicSoftLabelAssigner against its cost, pair by pair, and its matching, object by object."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.building_blocks.padding import clean
from harness.assigners.dynamic_soft_label import DynamicSoftLabelAssigner
from harness.core.structures import Candidates, GroundTruth
from tests.assigners.pairs import Pair, assert_pairs, dynamic_k, pairs
from tests.assigners.scenes import scenes


def log(p: float) -> float:
    return max(math.log(p), -100) if p > 0 else -100


def cost_of(pair: Pair, radius: float, iou_weight: float) -> float:
    total = 0.0
    for k, p in enumerate(pair.scores):
        target = pair.iou if k == pair.label else 0.0
        total -= (target * log(p) + (1 - target) * log(1 - p)) * (target - p) ** 2
    distance = math.hypot(*pair.off_center) / pair.stride
    return total - iou_weight * math.log(pair.iou + 1e-7) + 10 ** (distance - radius)


@given(scenes(), st.sampled_from((0.0, 3.0)), st.sampled_from((1, 4, 13, 500)), st.sampled_from((0.0, 3.0)))
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], radius: float, topk: int, iou_weight: float) -> None:
    truth, candidates = clean(*drawn)
    assigner = DynamicSoftLabelAssigner(radius, topk, iou_weight)
    cost, iou = assigner.cost(truth, candidates)
    known = pairs(truth, candidates)
    counts = {n for (_, n), pair in known.items() if pair.inside > 0}

    def expected(g: int, n: int) -> float:
        if (g, n) not in known or n not in counts:
            return math.inf
        value = cost_of(known[g, n], radius, iou_weight)
        return value if value < 3e38 else math.inf

    assert_pairs(cost, expected)
    assert_pairs(iou, lambda g, n: known[g, n].iou if (g, n) in known and n in counts else 0.0)
    assert assigner(*drawn).gt_index.tolist() == dynamic_k(cost, iou, topk, candidates)


@pytest.mark.parametrize("wrong", [{"soft_center_radius": -1}, {"topk": 0}, {"iou_weight": -3}, {"memory_bound": -1}])
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DynamicSoftLabelAssigner(**wrong)
