"""OTAAssigner against its cost and supply, pair by pair, and a plain Sinkhorn iteration in double precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.assigners.building_blocks.padding import clean
from harness.assigners.ota import OTAAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.pairs import Pair, assert_pairs, pairs
from tests.assigners.scenes import matchable, scene, scenes, usable


def focal(p: float, on: bool) -> float:
    q = p if on else 1 - p
    weight = 0.25 if on else 0.75
    return -weight * (1 - q) ** 2 * (max(math.log(q), -100) if q > 0 else -100)


def inside(pair: Pair, radius: float) -> bool:
    return pair.inside > 0.01 and max(pair.off_center) < radius * pair.stride


def cost_of(pair: Pair, radius: float) -> float:
    classification = sum(focal(p, k == pair.label) for k, p in enumerate(pair.scores))
    price = 0 if inside(pair, radius) else 1e6
    return classification - 1.5 * math.log(max(pair.iou, 1.1920929e-07)) + price


def sinkhorn(supply: np.ndarray, cost: np.ndarray, eps: float, steps: int) -> np.ndarray:
    """The plan, each row divided by its maximum (Cuturi 2013, in log space)."""
    u, v = np.zeros(len(supply)), np.zeros(cost.shape[1])
    for _ in range(steps):
        v = -np.logaddexp.reduce((u[:, None] - cost) / eps, axis=0) * eps
        u = eps * np.log(supply + 1e-8) - np.logaddexp.reduce((v[None] - cost) / eps, axis=1) * eps
    exponent = (u[:, None] + v[None] - cost) / eps
    return np.exp(exponent - exponent.max(1, keepdims=True))


def select(plan: Tensor, truth: GroundTruth, candidates: Candidates) -> list[int]:
    answer = [NEGATIVE if valid else IGNORED for valid in candidates.valid]
    for n in usable(candidates):
        shares = [(-float(plan[1 + g, n]), g) for g in matchable(truth)]
        if shares and -min(shares)[0] >= float(plan[0, n]):
            answer[n] = min(shares)[1]
    return answer


@given(scenes(), st.sampled_from((1.0, 2.5)), st.sampled_from((1, 20, 500)))
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], radius: float, top_candidates: int) -> None:
    truth, candidates = clean(*drawn)
    assigner = OTAAssigner(radius, top_candidates)
    cost, iou = assigner.cost(truth, candidates)
    known = pairs(truth, candidates)
    scores = candidates.predictions.scores.double().tolist()

    def expected(row: int, n: int) -> float:
        if row == 0:
            return sum(focal(p, False) for p in scores[n]) if n in usable(candidates) else math.inf
        return cost_of(known[row - 1, n], radius) if (row - 1, n) in known else math.inf

    def expected_iou(g: int, n: int) -> float:
        return known[g, n].iou if (g, n) in known and inside(known[g, n], radius) else 0.0

    assert_pairs(cost, expected)
    assert_pairs(iou, expected_iou)
    if not (len(truth.labels) and len(candidates.valid)):
        return
    supply = assigner.supply(iou, truth, candidates)
    for g in range(len(truth.labels)):
        best = torch.sort(iou[g], descending=True).values[:top_candidates]
        assert supply[1 + g] == (max(1, int(best.sum())) if g in matchable(truth) else 0)
    assert supply[0] == max(len(usable(candidates)) - int(supply[1:].sum()), 0)
    assert assigner(*drawn).gt_index.tolist() == select(assigner.plan(supply, cost), truth, candidates)


@pytest.mark.parametrize("seed", range(4))
def test_the_plan_is_sinkhorns(seed: int) -> None:
    random = np.random.default_rng(seed)
    cost = random.gamma(2.0, 1.0, (6, 40))
    supply = np.concatenate(([40 - 15.0], np.array([1, 2, 3, 4, 5.0])))
    plan = OTAAssigner(sinkhorn_iter=30).plan(torch.from_numpy(supply).float(), torch.from_numpy(cost).float())
    np.testing.assert_allclose(plan.numpy(), sinkhorn(supply, cost, 0.1, 30), rtol=2e-3, atol=1e-6)


def test_rows_and_columns_that_take_no_part_change_nothing() -> None:
    random = torch.Generator().manual_seed(0)
    cost = torch.rand(4, 30, generator=random) * 5
    supply = torch.tensor([20.0, 3, 4, 3])
    padded = torch.full((7, 33), torch.inf)
    padded[:4, :30] = cost
    assigner = OTAAssigner()
    plan = assigner.plan(torch.cat((supply, torch.zeros(3))), padded)
    torch.testing.assert_close(plan[:4, :30], assigner.plan(supply, cost), rtol=1e-4, atol=1e-7)
    assert (plan[4:] == 0).all()
    assert (plan[:, 30:] == 0).all()


def test_more_objects_than_candidates() -> None:
    truth, candidates = scene(1, objects=50, count=5)
    found = OTAAssigner()(truth, candidates)
    assert not found.max_iou.isnan().any()
    assert ((found.gt_index >= NEGATIVE) & (found.gt_index < 50)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"center_radius": 0},
        {"top_candidates": 0},
        {"reg_weight": -1},
        {"focal_alpha": 2},
        {"focal_gamma": -1},
        {"sinkhorn_eps": 0},
        {"sinkhorn_iter": 0},
        {"memory_bound": 0},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OTAAssigner(**wrong)
