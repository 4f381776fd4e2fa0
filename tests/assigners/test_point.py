"""PointAssigner against a loop over objects and points."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.point import PointAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import matchable, numbers, one_object, points, scene, scenes, usable


def oracle(truth: GroundTruth, candidates: Candidates, scale: float, pos_num: int) -> list[int]:
    objects, boxes, real = numbers(truth.boxes), numbers(candidates.boxes), usable(candidates)
    level = {n: round(math.log2(candidates.stride[n])) for n in real}
    answer = [NEGATIVE if n in level else IGNORED for n in range(len(boxes))]
    nearest: dict[int, float] = {}
    for g in matchable(truth):
        box = objects[g]
        kind = type(box[0])
        sides = [max(box[axis + 2] - box[axis], kind(1e-6)) for axis in range(2)]
        wanted = math.trunc(sum(math.log2(side / scale) for side in sides) / 2)
        if not real:
            continue
        here = min({level[n] for n in real}, key=lambda a: (abs(a - wanted), a))
        distance = {}
        for n in real:
            if level[n] == here:
                offset = [
                    ((boxes[n][a] + boxes[n][a + 2]) / 2 - (box[a] + box[a + 2]) / 2) / sides[a] for a in range(2)
                ]
                # Ranked in float32, as core.topk says: of a box without area, offsets are a million times the sides.
                distance[n] = float(np.float32(offset[0] * offset[0] + offset[1] * offset[1]))
        for n in sorted(distance, key=lambda n: (distance[n], n))[:pos_num]:
            if n not in nearest or distance[n] < nearest[n]:
                answer[n], nearest[n] = g, distance[n]
    return answer


@given(scenes(), st.sampled_from((1, 3, 30)), st.sampled_from((1.0, 4.0)))
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], pos_num: int, scale: float) -> None:
    found = PointAssigner(scale, pos_num)(*drawn)
    assert found.gt_index.tolist() == oracle(*drawn, scale, pos_num)


@pytest.mark.parametrize(("side", "stride"), [(20, 8), (40, 8), (80, 16), (130, 32), (2000, 32)])
def test_an_object_has_its_level(side: float, stride: int) -> None:
    candidates = points(256)
    found = PointAssigner(scale=4, pos_num=2)(one_object(120, 130, side, side), candidates)
    assert candidates.stride[found.positive].tolist() == [stride, stride]


def test_refuses() -> None:
    with pytest.raises(ValueError, match="pos_num=0 must be a whole number of at least 1"):
        PointAssigner(pos_num=0)
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="PointAssigner needs the strides"):
        PointAssigner()(truth, replace(candidates, stride=None))
