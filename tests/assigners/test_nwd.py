"""NWDAssigner against the steps of Faster R-CNN on a naive Wasserstein distance."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.building_blocks.gaussian_boxes import normalized_wasserstein
from harness.assigners.building_blocks.padding import clean
from harness.assigners.max_iou import MaxIoUAssigner
from harness.assigners.nwd import NWDAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import corner_anchors, matchable, one_object, scene, scenes, usable


def naive_nwd(one: list[float], other: list[float], constant: float) -> float:
    """Of two Gaussians with the boxes' centers and half their sides as deviations (Wang et al. 2021, eq. 4 to 7)."""
    center = [(one[a] + one[a + 2] - other[a] - other[a + 2]) / 2 for a in range(2)]
    deviation = [((one[a + 2] - one[a]) - (other[a + 2] - other[a])) / 2 for a in range(2)]
    return math.exp(-math.sqrt(sum(v * v for v in (*center, *deviation))) / constant)


def test_similarity_equals_the_formula() -> None:
    truth, candidates = clean(*scene(3, objects=5))
    found = normalized_wasserstein(truth.boxes, candidates.boxes, 12.8)
    for g, box in enumerate(truth.boxes.double().tolist()):
        for n, other in enumerate(candidates.boxes.double().tolist()):
            assert found[g, n].item() == pytest.approx(naive_nwd(box, other, 12.8), rel=1e-4, abs=1e-6)


def oracle(truth: GroundTruth, candidates: Candidates, pos: float, neg: float, least: float) -> list[int]:
    """Step by step on the similarities themselves, so that ties are ties for both."""
    table = normalized_wasserstein(*(value.boxes for value in clean(truth, candidates)), 12.8).tolist()
    objects, real = matchable(truth), usable(candidates)
    answer = [IGNORED] * len(candidates.boxes)
    for n in real:
        best = max(objects, key=lambda g, n=n: (table[g][n], -g), default=None)
        similarity = 0.0 if best is None else table[best][n]
        if similarity < neg:
            answer[n] = NEGATIVE
        if best is not None and similarity >= pos:
            answer[n] = best
    for g in objects:
        highest = max((table[g][n] for n in real), default=-1.0)
        if highest >= least:
            for n in real:
                answer[n] = g if table[g][n] == highest else answer[n]
    return answer


@given(scenes(anchors=True), st.sampled_from((0.4, 0.7)))
@settings(max_examples=40, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], pos: float) -> None:
    found = NWDAssigner(pos_iou_thr=pos, constant=12.8)(*drawn)
    assert found.gt_index.tolist() == oracle(*drawn, pos, 0.3, 0.3)


def test_a_tiny_object_that_touches_no_anchor_well_gets_positives() -> None:
    candidates = corner_anchors([(16, 16)])
    truth = one_object(67, 67, 5, 5)
    by_iou = MaxIoUAssigner(0.5, 0.4, min_pos_iou=0.3)(truth, candidates)
    by_nwd = NWDAssigner(0.5, 0.4, min_pos_iou=0.3)(truth, candidates)
    assert not by_iou.positive.any()
    assert by_nwd.positive.any()
    assert torch.equal(by_nwd.max_iou, by_iou.max_iou), "max_iou stays the IoU"


def test_refuses() -> None:
    with pytest.raises(ValueError, match="constant=0 must be above 0"):
        NWDAssigner(constant=0)
    with pytest.raises(ValueError, match="pos_iou_thr=2 must be between 0 and 1"):
        NWDAssigner(pos_iou_thr=2)
