"""GridAssigner against loops over candidates and objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.grid import GridAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import corner_anchors, matchable, numbers, one_object, scene, scenes, usable
from tests.assigners.test_max_iou import best_object, overlaps


def responsible(truth: GroundTruth, candidates: Candidates) -> list[int]:
    objects, boxes = numbers(truth.boxes), numbers(candidates.boxes)
    found = []
    for n in usable(candidates):
        stride = type(boxes[n][0])(float(candidates.stride[n]))
        cell = [np.floor((boxes[n][axis] + boxes[n][axis + 2]) / 2 / stride) for axis in range(2)]
        centers = (
            [(objects[g][axis] + objects[g][axis + 2]) / 2 / stride for axis in range(2)] for g in matchable(truth)
        )
        if any([np.floor(value) for value in center] == cell for center in centers):
            found.append(n)
    return found


def oracle(truth: GroundTruth, candidates: Candidates, p: dict) -> list[int]:
    objects, table = matchable(truth), overlaps(truth, candidates)
    cells = responsible(truth, candidates)
    low, high = (-1, p["neg_iou_thr"]) if np.isscalar(p["neg_iou_thr"]) else p["neg_iou_thr"]
    answer = [IGNORED] * len(candidates.boxes)
    for n in usable(candidates):
        if not objects:
            answer[n] = NEGATIVE
            continue
        best = best_object(table, objects, n)
        if low < table[best, n] <= high:
            answer[n] = NEGATIVE
        if n in cells and table[best, n] > p["pos_iou_thr"]:
            answer[n] = best
    for g in objects if cells else []:
        highest = max(table[g, n] for n in cells)
        if highest > p["min_pos_iou"]:
            tied = [n for n in cells if table[g, n] == highest]
            for n in tied if p["gt_max_assign_all"] else tied[:1]:
                answer[n] = g
    return answer


PARAMETERS = st.fixed_dictionaries(
    {
        "pos_iou_thr": st.sampled_from((0.3, 0.5)),
        "neg_iou_thr": st.sampled_from((0.3, 0.5, 1, (0.1, 0.4))),
        "min_pos_iou": st.sampled_from((0.0, 0.2)),
        "gt_max_assign_all": st.booleans(),
    }
)


@given(scenes(anchors=True), PARAMETERS)
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], parameters: dict) -> None:
    assert GridAssigner(**parameters)(*drawn).gt_index.tolist() == oracle(*drawn, parameters)


def test_many_objects() -> None:
    parameters = {"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0.0, "gt_max_assign_all": True}
    drawn = scene(8, "ties", objects=300, anchors=True)
    assert GridAssigner(**parameters)(*drawn).gt_index.tolist() == oracle(*drawn, parameters)


@pytest.mark.parametrize("x", [60.0, 63.5, 64.0, 67.9])
def test_cells_are_those_around_the_anchors(x: float) -> None:
    """torchvision's anchors stand at i * stride: (64, 64) has the cell from 60 to 68."""
    candidates = corner_anchors([(30, 30)])
    truth = one_object(x, 63.5, 30, 30)
    found = GridAssigner()(truth, candidates)
    assert candidates.centers[found.positive].tolist() == [[64, 64]]
    assert candidates.centers[GridAssigner().responsible(truth, candidates)].tolist() == [[64, 64]]


def test_refuses() -> None:
    with pytest.raises(ValueError, match="pos_iou_thr=-1 must be between 0 and 1"):
        GridAssigner(pos_iou_thr=-1)
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="GridAssigner needs the strides"):
        GridAssigner()(truth, replace(candidates, stride=None))
