"""FCOSAssigner against loops over points and objects, and torchvision's own matching."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.fcos import FCOSAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import corner_anchors, matchable, numbers, one_object, scene, scenes, usable

RANGES = [(-1.0, 16.0), (16.0, 32.0), (32.0, 1e8)]


def oracle(
    truth: GroundTruth, candidates: Candidates, radius: float | None, ranges: list | None, flavour: str
) -> list[int]:
    objects, boxes = numbers(truth.boxes), numbers(candidates.boxes)
    answer = [IGNORED] * len(boxes)
    for n in usable(candidates):
        answer[n] = NEGATIVE
        x1, y1, x2, y2 = boxes[n]
        x, y, level = (x1 + x2) / 2, (y1 + y2) / 2, int(candidates.level[n])
        stride = type(x)(float(candidates.stride[n]))
        low = 0 if level == 0 else stride * 4
        high = float("inf") if level == candidates.num_levels - 1 else stride * 8
        if ranges is not None:
            low, high = ranges[level]
        winner = None
        for g in matchable(truth):
            box = objects[g]
            sides = x - box[0], y - box[1], box[2] - x, box[3] - y
            fits = low < max(sides) < high if flavour == "torchvision" else low <= max(sides) <= high
            away = max(abs(x - (box[0] + box[2]) / 2), abs(y - (box[1] + box[3]) / 2))
            if min(sides) > 0 and fits and (radius is None or away < stride * type(x)(radius)):
                area = (box[2] - box[0]) * (box[3] - box[1])
                size = type(x)(1e8) - area if flavour == "torchvision" else -area
                if winner is None or size > winner:
                    winner, answer[n] = size, g
    return answer


@given(
    scenes(),
    st.sampled_from((None, 0.51, 1.5)),
    st.sampled_from((None, RANGES)),
    st.sampled_from(("torchvision", "mmdet")),
)
@settings(max_examples=80, deadline=None)
def test_equals_the_oracle(
    drawn: tuple[GroundTruth, Candidates], radius: float | None, ranges: list | None, flavour: str
) -> None:
    found = FCOSAssigner(radius, ranges, flavour)(*drawn)
    assert found.gt_index.tolist() == oracle(*drawn, radius, ranges, flavour)


def test_a_thousand_objects() -> None:
    drawn = scene(2, objects=1000)
    assigner = FCOSAssigner(memory_bound=50_000)
    assert assigner(*drawn).gt_index.tolist() == oracle(*drawn, 1.5, None, "torchvision")


def test_centre_only_and_multi_positives() -> None:
    """YOLOX's table 2: with a small radius one point, with 1.5 the nine around it."""
    truth = GroundTruth(
        torch.tensor([[0.0, 0, 40, 40]]),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1, dtype=torch.bool),
        torch.zeros(1, dtype=torch.bool),
    )
    _, candidates = scene(0)
    everywhere = [(-1, 1e8)] * 3
    level = candidates.level == 0
    counts = [
        int((FCOSAssigner(radius, everywhere)(truth, candidates).positive & level).sum()) for radius in (0.51, 1.5)
    ]
    assert counts == [1, 9]


def test_an_anchor_counts_as_the_point_in_its_middle() -> None:
    """A large anchor on a fine level has that level's stride, not its own side."""
    candidates = corner_anchors([(8, 8), (90, 45)])
    found = FCOSAssigner(regress_ranges=[(0, 1e8)])(one_object(64, 64, 40, 40), candidates)
    small, large = found.positive.unflatten(0, (-1, 2)).unbind(-1)
    assert int(small.sum()) == 9
    assert torch.equal(small, large)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="flavour='paper' must be one of torchvision, mmdet"):
        FCOSAssigner(flavour="paper")
    with pytest.raises(ValueError, match="center_sampling_radius=-1 must be at least 0, or null"):
        FCOSAssigner(center_sampling_radius=-1)
    with pytest.raises(ValueError, match=r"regress_ranges=\[\(3, 1\)\] must be pairs"):
        FCOSAssigner(regress_ranges=[(3, 1)])
    with pytest.raises(ValueError, match="2 ranges for 3 levels"):
        FCOSAssigner(regress_ranges=[(0, 8), (8, 16)])(*scene(0))
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="FCOSAssigner needs the strides"):
        FCOSAssigner()(truth, replace(candidates, stride=None))
