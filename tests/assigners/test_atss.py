"""ATSSAssigner against the paper's algorithm 1, written as loops."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.atss import ATSSAssigner
from harness.core.boxes import pairwise_iou
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import iou, matchable, numbers, one_object, points, scene, scenes, usable
from tests.assigners.test_max_iou import covered


def middle(box: tuple) -> tuple:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def shapes(candidates: Candidates) -> list[tuple]:
    """The boxes that are compared: of a pyramid of points the squares of 8 strides."""
    boxes, strides = numbers(candidates.boxes), candidates.stride.tolist()
    if not all(boxes[n][2] - boxes[n][0] == boxes[n][3] - boxes[n][1] == strides[n] for n in usable(candidates)):
        return boxes
    return [
        (x1 - 3.5 * s, y1 - 3.5 * s, x2 + 3.5 * s, y2 + 3.5 * s)
        for (x1, y1, x2, y2), s in zip(boxes, strides, strict=True)
    ]


def oracle(truth: GroundTruth, candidates: Candidates, topk: int, ignore_iof_thr: float) -> list[int]:
    objects, boxes, real = numbers(truth.boxes), shapes(candidates), usable(candidates)
    if not matchable(truth):
        return [NEGATIVE if valid else IGNORED for valid in candidates.valid]
    out = {n for n in real if covered(truth, candidates, n, ignore_iof_thr, True)}
    answer = [(IGNORED if n in out or n not in real else NEGATIVE) for n in range(len(boxes))]
    score: dict[int, float] = {}
    for g in matchable(truth):
        x, y = middle(objects[g])
        competitors = []
        for level in range(candidates.num_levels):
            ranked = []
            for n in real:
                if candidates.level[n] == level:
                    dx, dy = middle(boxes[n])[0] - x, middle(boxes[n])[1] - y
                    ranked.append((n in out, np.float32(0 if n in out else dx * dx + dy * dy), n))
            competitors += [n for _, _, n in sorted(ranked)[:topk]]
        values = [float(iou(objects[g], boxes[n])) for n in competitors]
        if not values:
            continue
        kind = type(objects[g][0])
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        threshold = kind(statistics.mean(values)) + kind(spread)
        for n, value in zip(competitors, values, strict=True):
            cx, cy = middle(boxes[n])
            sides = cx - objects[g][0], cy - objects[g][1], objects[g][2] - cx, objects[g][3] - cy
            if value >= threshold and min(sides) > kind(0.01) and value > score.get(n, -1):
                score[n], answer[n] = value, g
    return answer


@given(scenes(anchors=True), st.sampled_from((1, 3, 9)), st.sampled_from((-1, 0.3)))
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], topk: int, ignore_iof_thr: float) -> None:
    found = ATSSAssigner(topk, ignore_iof_thr)(*drawn)
    assert found.gt_index.tolist() == oracle(*drawn, topk, ignore_iof_thr)


@pytest.mark.parametrize("kind", ["plain", "ties"])
def test_many_objects(kind: str) -> None:
    drawn = scene(5, kind, objects=200)
    assert ATSSAssigner()(*drawn).gt_index.tolist() == oracle(*drawn, 9, -1)


def test_a_single_competitor_reaches_its_own_mean() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    truth = GroundTruth(
        boxes, torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.bool), torch.zeros(1).bool()
    )
    candidates = Candidates(boxes + 1, torch.ones(1, dtype=torch.bool))
    assert ATSSAssigner(topk=1)(truth, candidates).gt_index.tolist() == [0]


@pytest.mark.parametrize(("side", "level"), [(64, 0), (128, 1), (256, 2)])
def test_a_point_counts_as_a_square_of_eight_strides(side: int, level: int) -> None:
    """As squares of one stride all objects would be those of the coarsest points."""
    truth, candidates = one_object(128, 128, side, side), points(256)
    found = ATSSAssigner()(truth, candidates)
    assert candidates.level[found.positive].unique().tolist() == [level]
    assert torch.equal(found.max_iou, pairwise_iou(truth.boxes, candidates.boxes).amax(0))


def test_refuses() -> None:
    with pytest.raises(ValueError, match="topk=0 must be a whole number of at least 1"):
        ATSSAssigner(topk=0)
    with pytest.raises(ValueError, match="ignore_iof_thr=2 must be between -1 and 1"):
        ATSSAssigner(ignore_iof_thr=2)
