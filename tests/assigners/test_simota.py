"""SimOTAAssigner against its cost, pair by pair, and its matching, object by object."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.building_blocks.padding import clean
from harness.assigners.simota import SimOTAAssigner
from harness.core.structures import Candidates, GroundTruth, Need, Predictions
from tests.assigners.pairs import Pair, assert_pairs, dynamic_k, pairs
from tests.assigners.scenes import scene, scenes


def in_region(pair: Pair, flavour: str, radius: float) -> tuple[bool, bool]:
    """Whether the pair counts at all, and whether it goes without penalty."""
    near, inside = max(pair.off_center) < radius * pair.stride, pair.inside > 0
    return (near, near) if flavour == "yolox" else (near or inside, near and inside)


def cost_of(pair: Pair, flavour: str, radius: float) -> float:
    entropy = 0.0
    for k, p in enumerate(pair.scores):
        q = p if k == pair.label else 1 - p
        entropy -= max(math.log(q), -100) if q > 0 else -100
    eps, penalty = (1e-8, 1e6) if flavour == "yolox" else (1e-7, 1e5)
    return entropy - 3 * math.log(pair.iou + eps) + (0 if in_region(pair, flavour, radius)[1] else penalty)


@given(
    scenes(), st.sampled_from(("mmdet", "yolox")), st.sampled_from((0.5, 1.5, 2.5)), st.sampled_from((1, 3, 10, 500))
)
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(
    drawn: tuple[GroundTruth, Candidates], flavour: str, radius: float, candidate_topk: int
) -> None:
    truth, candidates = clean(*drawn)
    assigner = SimOTAAssigner(radius, candidate_topk, flavour=flavour)
    cost, iou = assigner.cost(truth, candidates)
    known = pairs(truth, candidates)
    counts = {n for (_, n), pair in known.items() if in_region(pair, flavour, radius)[0]}

    def expected(g: int, n: int) -> float:
        return cost_of(known[g, n], flavour, radius) if (g, n) in known and n in counts else math.inf

    assert_pairs(cost, expected)
    assert_pairs(iou, lambda g, n: known[g, n].iou if (g, n) in known and n in counts else 0.0)
    found = assigner(*drawn)
    assert found.gt_index.tolist() == dynamic_k(cost, iou, candidate_topk, candidates)


def test_an_object_without_candidates_of_its_own_pays_the_penalty() -> None:
    """The penalty is a cost, not an exclusion: a point in some other object's region serves."""
    boxes = torch.tensor([[2.0, 2, 14, 14], [200, 200, 201, 201]])
    valid = torch.ones(2, dtype=torch.bool)
    truth = GroundTruth(boxes, torch.tensor([0, 1]), valid, ~valid)
    points = torch.tensor([[4.0, 4, 12, 12], [0, 0, 8, 8]])
    predictions = Predictions(torch.tensor([[0.9, 0.1], [0.1, 0.9]]), points)
    candidates = Candidates(points, valid, stride=torch.tensor([8.0, 8]), predictions=predictions)
    assert SimOTAAssigner()(truth, candidates).gt_index.tolist() == [0, 1]


def test_sure_scores_stay_finite() -> None:
    truth, candidates = scene(3)
    assert candidates.predictions is not None
    for value in (0.0, 1.0):
        sure = Predictions(torch.full_like(candidates.predictions.scores, value), candidates.predictions.boxes)
        cost, _ = SimOTAAssigner().cost(truth, candidates.predicted(sure))
        assert not cost.isnan().any()


@pytest.mark.parametrize("missing", ["predictions", "stride"])
def test_says_what_it_misses(missing: str) -> None:
    truth, candidates = scene(0)
    changed = {"predictions": candidates.predictions, "stride": candidates.stride} | {missing: None}
    bare = Candidates(candidates.boxes, candidates.valid, stride=changed["stride"], predictions=changed["predictions"])
    with pytest.raises(ValueError, match="SimOTAAssigner"):
        SimOTAAssigner()(truth, bare)


def test_flavours_bring_their_radius() -> None:
    assert SimOTAAssigner().center_radius == 2.5
    assert SimOTAAssigner(flavour="yolox").center_radius == 1.5
    assert SimOTAAssigner(4.0, flavour="yolox").center_radius == 4
    assert SimOTAAssigner().needs == {Need.PREDICTIONS, Need.STRIDES}


@pytest.mark.parametrize(
    "wrong",
    [
        {"center_radius": 0},
        {"candidate_topk": 0},
        {"iou_weight": -1},
        {"cls_weight": -0.5},
        {"flavour": "v8"},
        {"memory_bound": 0},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimOTAAssigner(**wrong)
