"""YOLOv7OTAAssigner against a list of rows that is matched one by one, as the authors' code does."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.building_blocks.padding import clean
from harness.assigners.yolov7_ota import PairCosts, YOLOv7OTAAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.pairs import Pair, assert_pairs, pairs
from tests.assigners.scenes import matchable, scene, scenes, usable


def matched_rows(costs: PairCosts, topk: int) -> list[tuple[int, int]]:
    """(candidate, object) of every row; -1 where it is matched to none. Equal rows stand side by side here."""
    objects, count = costs.cost.shape
    rows = [n for n in range(count) for _ in range(int(costs.rows[n]))]
    cost, iou = costs.cost.tolist(), costs.iou.tolist()
    takers: dict[int, list[int]] = {}
    for g in range(objects):
        summed = sum(sorted((iou[g][n] for n in rows), reverse=True)[:topk])
        finite = [r for r in range(len(rows)) if math.isfinite(cost[g][rows[r]])]
        for r in sorted(finite, key=lambda r, g=g: (cost[g][rows[r]], r))[: max(1, int(summed + 1e-6))]:
            takers.setdefault(r, []).append(g)
    answer = []
    for r, n in enumerate(rows):
        mine = takers.get(r, [])
        cheapest = min(range(objects), key=lambda g, n=n: (cost[g][n], g), default=-1)
        answer.append((n, NEGATIVE if not mine else mine[0] if len(mine) == 1 else cheapest))
    return answer


@given(scenes(anchors=True), st.sampled_from((2.0, 4.0)))
@settings(max_examples=60, deadline=None)
def test_equals_the_list_of_rows(drawn: tuple[GroundTruth, Candidates], anchor_t: float) -> None:
    assigner = YOLOv7OTAAssigner(anchor_t)
    costs = assigner.costs(*drawn)
    rows = matched_rows(costs, assigner.candidate_topk)
    relation = assigner.matches(*drawn)
    found = {(n, g): int(relation[g, n]) for g, n in relation.nonzero().tolist()}
    assert found == Counter((n, g) for n, g in rows if g >= 0)
    first = dict(reversed(rows))
    expected = [first.get(n, NEGATIVE) if drawn[1].valid[n] else IGNORED for n in range(len(drawn[1].boxes))]
    assert assigner(*drawn).gt_index.tolist() == expected


def test_costs_equal_the_formula() -> None:
    truth, candidates = scene(7, objects=5, anchors=True)
    assigner = YOLOv7OTAAssigner(3.0, cls_weight=0.5)
    costs, table = assigner.costs(truth, candidates), pairs(truth, candidates)
    selected = assigner.shapes.matches(*clean(truth, candidates)).sum(-2)
    assert costs.rows.tolist() == selected.tolist()

    def cost(g: int, n: int) -> float:
        if selected[n] == 0:
            return math.inf
        pair: Pair = table[g, n]
        entropy = -sum(math.log(p if k == pair.label else 1 - p) for k, p in enumerate(pair.scores))
        return 0.5 * entropy - 3 * math.log(pair.iou + 1e-8)

    assert matchable(truth) == list(range(5))
    assert usable(candidates) == list(range(len(candidates.boxes)))
    assert_pairs(costs.cost, cost)
    assert_pairs(costs.iou, lambda g, n: table[g, n].iou if selected[n] else 0.0)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="anchor_t=1 must be above 1"):
        YOLOv7OTAAssigner(anchor_t=1)
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="needs the predictions"):
        YOLOv7OTAAssigner()(truth, candidates.predicted(None))
