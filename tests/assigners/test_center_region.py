"""CenterRegionAssigner against loops over candidates and objects."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.center_region import CenterRegionAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import matchable, numbers, scene, scenes, usable


def shrunk(box: tuple, scale: float) -> tuple:
    kind = type(box[0])
    half = kind(0.5)
    x, y = (box[2] + box[0]) * half, (box[3] + box[1]) * half
    w, h = (box[2] - box[0]) * half * kind(scale), (box[3] - box[1]) * half * kind(scale)
    return x - w, y - h, x + w, y + h


def holds(box: tuple, x: float, y: float) -> bool:
    return bool(box[0] < x < box[2] and box[1] < y < box[3])


def touches(region: tuple, box: tuple, share: float) -> bool:
    kind = type(box[0])
    width = max(min(box[2], region[2]) - max(box[0], region[0]), kind(0))
    height = max(min(box[3], region[3]) - max(box[1], region[1]), kind(0))
    return bool(width * height / max((box[2] - box[0]) * (box[3] - box[1]), kind(1e-6)) > share)


def area(box: tuple) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def oracle(truth: GroundTruth, candidates: Candidates, p: dict) -> tuple[list[int], set[tuple[int, int]]]:
    objects, boxes = numbers(truth.boxes), numbers(candidates.boxes)
    answer, shadowed = [IGNORED] * len(boxes), set()
    for n in usable(candidates):
        x, y = (boxes[n][0] + boxes[n][2]) / 2, (boxes[n][1] + boxes[n][3]) / 2
        core, shadow = [], []
        for g in matchable(truth):
            near_core = touches(shrunk(objects[g], p["pos_scale"]), boxes[n], p["min_pos_iof"])
            if holds(objects[g], x, y) and near_core:
                core.append(g)
            elif touches(shrunk(objects[g], p["neg_scale"]), boxes[n], p["min_pos_iof"]):
                shadow.append(g)
        taken = min(core, key=lambda g: (area(objects[g]), -g)) if core else NEGATIVE
        shadow += [g for g in core if g != taken]
        crowd = [box for g, box in enumerate(objects) if truth.crowd[g] and truth.valid[g]]
        ignored = any(holds(shrunk(box, p["ignore_gt_scale"]), x, y) for box in crowd)
        rivals = [] if ignored or taken < 0 else [g for g in shadow if truth.labels[g] == truth.labels[taken]]
        if p["foreground_dominate"]:
            shadow = [g for g in shadow if g not in rivals]
        elif rivals:
            taken = NEGATIVE
        answer[n] = IGNORED if ignored else taken
        shadowed |= {(g, n) for g in shadow}
    return answer, shadowed


PARAMETERS = st.fixed_dictionaries(
    {
        "pos_scale": st.sampled_from((0.2, 0.4)),
        "neg_scale": st.sampled_from((0.2, 0.5, 0.9)),
        "min_pos_iof": st.sampled_from((0.01, 0.2)),
        "ignore_gt_scale": st.sampled_from((0.5, 1.0)),
        "foreground_dominate": st.booleans(),
    }
)


@given(scenes(), PARAMETERS)
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], parameters: dict) -> None:
    assigner = CenterRegionAssigner(**parameters)
    answer, shadowed = oracle(*drawn, parameters)
    assert assigner(*drawn).gt_index.tolist() == answer
    assert {tuple(pair) for pair in assigner.shadows(*drawn).nonzero().tolist()} == shadowed


def test_many_objects() -> None:
    parameters = {
        "pos_scale": 0.2,
        "neg_scale": 0.5,
        "min_pos_iof": 0.01,
        "ignore_gt_scale": 0.5,
        "foreground_dominate": True,
    }
    drawn = scene(4, "duplicates", objects=300)
    assert CenterRegionAssigner(**parameters)(*drawn).gt_index.tolist() == oracle(*drawn, parameters)[0]


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"pos_scale=-0.1 must be at least 0"):
        CenterRegionAssigner(pos_scale=-0.1)
    with pytest.raises(ValueError, match="min_pos_iof=3 must be between 0 and 1"):
        CenterRegionAssigner(min_pos_iof=3)
