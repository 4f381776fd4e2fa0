"""YOLORatioAssigner against loops that visit cells, the object's side of the story."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.yolo_ratio import YOLORatioAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import corner_anchors, matchable, numbers, one_object, scene, scenes, usable


def cells_of(x: float, y: float, columns: int, rows: int) -> list[tuple[int, int]]:
    """The cell of a centre in grid units and those half a cell off, as often as the reference lists them."""
    offsets = [(0, 0)]
    offsets += [(-0.5, 0)] if x % 1 < 0.5 and x > 1 else []
    offsets += [(0, -0.5)] if y % 1 < 0.5 and y > 1 else []
    offsets += [(0.5, 0)] if (columns - x) % 1 < 0.5 and columns - x > 1 else []
    offsets += [(0, 0.5)] if (rows - y) % 1 < 0.5 and rows - y > 1 else []
    return [
        (min(max(int(x + type(x)(dx)), 0), columns - 1), min(max(int(y + type(y)(dy)), 0), rows - 1))
        for dx, dy in offsets
    ]


def oracle(truth: GroundTruth, candidates: Candidates, anchor_t: float) -> tuple[list[int], Counter]:
    objects, boxes, real = numbers(truth.boxes), numbers(candidates.boxes), usable(candidates)
    kind = type(boxes[0][0]) if boxes else float
    cell = {}
    for n in real:
        stride = kind(float(candidates.stride[n]))
        cell[n] = tuple(int(np.floor((boxes[n][axis] + boxes[n][axis + 2]) / 2 / stride)) for axis in range(2))
    times: Counter = Counter()
    ratio = {}
    for g in matchable(truth):
        for level in range(candidates.num_levels):
            here = [n for n in real if candidates.level[n] == level]
            if not here:
                continue
            stride = kind(float(candidates.stride[here[0]]))
            columns, rows = (max(cell[n][axis] for n in here) + 1 for axis in range(2))
            x, y = ((objects[g][axis] + objects[g][axis + 2]) / 2 / stride for axis in range(2))
            for n in here:
                sides = []
                for axis in range(2):
                    with np.errstate(divide="ignore"):
                        side = (objects[g][axis + 2] - objects[g][axis]) / (boxes[n][axis + 2] - boxes[n][axis])
                        sides += [side, kind(1) / side]
                ratio[g, n] = max(sides)
                if ratio[g, n] < anchor_t:
                    times[g, n] += cells_of(x, y, columns, rows).count(cell[n])
    answer = [IGNORED] * len(boxes)
    for n in real:
        mine = [g for g in matchable(truth) if times[g, n]]
        answer[n] = min(mine, key=lambda g, n=n: (ratio[g, n], g)) if mine else NEGATIVE
    return answer, +times


@given(scenes(anchors=True), st.sampled_from((2.0, 4.0)))
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], anchor_t: float) -> None:
    assigner = YOLORatioAssigner(anchor_t)
    answer, times = oracle(*drawn, anchor_t)
    assert assigner(*drawn).gt_index.tolist() == answer
    relation = assigner.matches(*drawn)
    assert {tuple(pair): int(relation[tuple(pair)]) for pair in relation.nonzero().tolist()} == dict(times)


def test_many_objects() -> None:
    drawn = scene(8, "ties", objects=200, anchors=True)
    assert YOLORatioAssigner(memory_bound=100_000)(*drawn).gt_index.tolist() == oracle(*drawn, 4.0)[0]


@pytest.mark.parametrize(
    ("x", "columns"),
    [(62.0, [56.0, 64.0]), (64.0, [64.0]), (66.0, [64.0, 72.0]), (0.0, [0.0]), (123.0, [120.0])],
)
def test_cells_are_those_around_the_anchors(x: float, columns: list[float]) -> None:
    """torchvision's anchors stand at i * stride: (64, 64) has the cell from 60 to 68, the last column ends at 124."""
    candidates = corner_anchors([(30, 30)])
    found = YOLORatioAssigner()(one_object(x, 64, 30, 30), candidates)
    assert sorted(candidates.centers[found.positive][:, 0].unique().tolist()) == columns


def test_refuses() -> None:
    with pytest.raises(ValueError, match="anchor_t=1 must be above 1"):
        YOLORatioAssigner(anchor_t=1)
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="YOLORatioAssigner needs the strides"):
        YOLORatioAssigner()(truth, replace(candidates, stride=None))
