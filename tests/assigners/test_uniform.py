"""UniformAssigner against loops that write into a list, the last write winning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.uniform import UniformAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import iou, matchable, numbers, scene, scenes, usable


def far(one: tuple, other: tuple) -> np.float32:
    """L1 distance of (cx, cy, w, h), in float32 at the end."""
    total = type(one[0])(0)
    for a, b in (
        ((one[0] + one[2]) / 2, (other[0] + other[2]) / 2),
        ((one[1] + one[3]) / 2, (other[1] + other[3]) / 2),
        (one[2] - one[0], other[2] - other[0]),
        (one[3] - one[1], other[3] - other[1]),
    ):
        total = total + abs(a - b)
    return np.float32(total)


def oracle(truth: GroundTruth, candidates: Candidates, times: int, pos_thr: float, neg_thr: float) -> list[int]:
    objects, anchors = numbers(truth.boxes), numbers(candidates.boxes)
    assert candidates.predictions is not None
    predicted, real = numbers(candidates.predictions.boxes), usable(candidates)
    answer = [IGNORED] * len(anchors)
    for n in real:
        answer[n] = NEGATIVE
        if any(iou(objects[g], predicted[n]) > neg_thr for g in matchable(truth)):
            answer[n] = IGNORED
    ranked = {
        (kind, g): sorted(real, key=lambda n, b=boxes, g=g: (far(b[n], objects[g]), n))
        for kind, boxes in enumerate((predicted, anchors))
        for g in matchable(truth)
    }
    for rank in range(min(times, len(real))):
        for kind in range(2):
            for g in matchable(truth):
                n = ranked[kind, g][rank]
                answer[n] = g if iou(objects[g], anchors[n]) >= pos_thr else IGNORED
    return answer


@given(scenes(anchors=True), st.sampled_from((1, 4)), st.sampled_from((0.15, 0.4)), st.sampled_from((0.3, 0.7)))
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], times: int, pos_thr: float, neg_thr: float) -> None:
    found = UniformAssigner(pos_thr, neg_thr, times, point_scale=1)(*drawn)
    assert found.gt_index.tolist() == oracle(*drawn, times, pos_thr, neg_thr)


def test_many_objects() -> None:
    drawn = scene(8, "ties", objects=200, anchors=True)
    assert UniformAssigner()(*drawn).gt_index.tolist() == oracle(*drawn, 4, 0.15, 0.7)


def test_a_prediction_that_is_not_finite_matches_nothing() -> None:
    truth, candidates = scene(1, objects=3, anchors=True)
    assert candidates.predictions is not None
    boxes = candidates.predictions.boxes.clone()
    boxes[5] = float("nan")
    boxes[6, 2] = float("inf")
    broken = candidates.predicted(replace(candidates.predictions, boxes=boxes))
    found, matches = UniformAssigner()(truth, broken), UniformAssigner().matches(truth, broken)
    by_prediction = matches.index[:, 0]
    assert not ((by_prediction == 5) | (by_prediction == 6)).any()
    assert torch.isfinite(found.max_iou).all()


def test_refuses() -> None:
    with pytest.raises(ValueError, match="match_times=0 must be a whole number of at least 1"):
        UniformAssigner(match_times=0)
    truth, candidates = scene(0)
    with pytest.raises(ValueError, match="UniformAssigner needs the predictions"):
        UniformAssigner()(truth, candidates.predicted(None))
