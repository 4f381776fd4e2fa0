"""TaskAlignedAssigner against TOOD's steps, written as loops, in all flavours."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.assigners.building_blocks.padding import clean
from harness.assigners.task_aligned import FLAVOURS, TaskAlignedAssigner
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth, Need, Predictions
from tests.assigners.pairs import Pair, assert_pairs, pairs
from tests.assigners.scenes import scene, scenes


def complete_iou(pair: Pair) -> float:
    """Zheng et al. 2020, equations 8 to 11."""
    one, other = pair.object, pair.box
    width = max(one[2], other[2]) - min(one[0], other[0])
    height = max(one[3], other[3]) - min(one[1], other[1])
    distance = ((one[0] + one[2] - other[0] - other[2]) / 2) ** 2 + ((one[1] + one[3] - other[1] - other[3]) / 2) ** 2
    angles = [math.atan((b[2] - b[0]) / max(b[3] - b[1], 1e-7)) for b in (one, other)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    trade_off = aspect / max(1 - pair.iou + aspect, 1e-7)
    return pair.iou - distance / max(width**2 + height**2, 1e-7) - trade_off * aspect


def margin(pair: Pair, flavour: str, strides: list[float]) -> float:
    """How far inside the object, enlarged where the flavour does so, the centre lies."""
    if flavour != "ultralytics":
        return pair.inside
    least = strides[min(1, len(strides) - 1)]
    sides = pair.object[2] - pair.object[0], pair.object[3] - pair.object[1]
    return min(max(side, least) / 2 - off for side, off in zip(sides, pair.off_center, strict=True))


def overlap_of(pair: Pair, flavour: str, strides: list[float]) -> float:
    if flavour == "mmdet":
        return pair.iou
    return max(complete_iou(pair), 0.0) if margin(pair, flavour, strides) > 1e-9 else 0.0


def select(
    alignment: Tensor, overlap: Tensor, inside: set[tuple[int, int]], flavour: str, topk: int, topk2: int | None
) -> list[int]:
    """The object of every candidate, by loops over the assigner's own alignment."""
    objects, count = alignment.shape
    takers: dict[int, list[int]] = {}
    for g in range(objects):
        order = sorted(range(count), key=lambda n: (-float(alignment[g, n]), n))[:topk]
        if flavour != "mmdet":
            order = alignment[g].topk(min(topk, count)).indices.tolist()
        for n in order:
            if (g, n) in inside and (flavour != "mmdet" or alignment[g, n] > 0):
                takers.setdefault(n, []).append(g)
    answer = [NEGATIVE] * count
    for n, rivals in takers.items():
        among = rivals if flavour == "mmdet" or len(rivals) == 1 else range(objects)
        answer[n] = max(among, key=lambda g: (float(overlap[g, n]), -g))
    if topk2 is not None:
        for g in range(objects):
            own = sorted((n for n in range(count) if answer[n] == g), key=lambda n: (-float(alignment[g, n]), n))
            for n in own[topk2:]:
                answer[n] = NEGATIVE
    return answer


def normalised(alignment: Tensor, overlap: Tensor, gt_index: list[int]) -> list[float]:
    quality = [0.0] * len(gt_index)
    for g in set(gt_index) - {NEGATIVE, IGNORED}:
        own = [n for n, object_ in enumerate(gt_index) if object_ == g]
        best = max(float(alignment[g, n]) for n in own)
        highest = max(float(overlap[g, n]) for n in own)
        for n in own:
            quality[n] = float(alignment[g, n]) * highest / (best + 1e-9)
    return quality


@given(
    scenes(),
    st.sampled_from(FLAVOURS),
    st.sampled_from((1, 3, 13, 500)),
    st.sampled_from(((1.0, 6.0), (0.5, 6.0), (1.0, 2.5), (0.0, 1.0))),
    st.sampled_from((None, None, 1, 4)),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(
    drawn: tuple[GroundTruth, Candidates],
    flavour: str,
    topk: int,
    exponents: tuple[float, float],
    topk2: int | None,
) -> None:
    truth, candidates = clean(*drawn)
    assigner = TaskAlignedAssigner(topk, *exponents, flavour=flavour, topk2=topk2)
    alignment, overlap = assigner.alignment(truth, candidates)
    known, strides = pairs(truth, candidates), sorted(set(candidates.stride.tolist()))
    assert_pairs(overlap, lambda g, n: overlap_of(known[g, n], flavour, strides) if (g, n) in known else 0.0)
    for (g, n), pair in known.items():
        expected = pair.scores[pair.label] ** exponents[0] * float(overlap[g, n]) ** exponents[1]
        assert math.isclose(float(alignment[g, n]), expected, rel_tol=1e-4, abs_tol=1e-9)

    least = 0.01 if flavour == "mmdet" else 1e-9
    inside = {key for key, pair in known.items() if margin(pair, flavour, strides) > least}
    expected_index = select(alignment, overlap, inside, flavour, topk, topk2)
    found = assigner(*drawn)
    valid = candidates.valid.tolist()
    assert found.gt_index.tolist() == [g if ok else IGNORED for g, ok in zip(expected_index, valid, strict=True)]
    expected_quality = torch.tensor(normalised(alignment, overlap, expected_index))
    torch.testing.assert_close(found.quality, expected_quality.reshape(found.quality.shape), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_in_groups_of_objects_the_same(flavour: str) -> None:
    truth, candidates = scene(4, "ties", objects=30)
    whole = TaskAlignedAssigner(flavour=flavour)(truth, candidates)
    parts = TaskAlignedAssigner(flavour=flavour, memory_bound=1)(truth, candidates)
    assert torch.equal(whole.gt_index, parts.gt_index)
    assert torch.equal(whole.quality, parts.quality)


def test_a_tiny_object_is_enlarged_in_the_newer_flavour_only() -> None:
    boxes = torch.tensor([[9.0, 9, 11, 11]])
    valid = torch.ones(1, dtype=torch.bool)
    truth = GroundTruth(boxes, torch.tensor([0]), valid, ~valid)
    _, points = scene(0)
    predictions = Predictions(torch.full((len(points.boxes), 1), 0.5), boxes.expand(len(points.boxes), 4))
    newer, older = (
        TaskAlignedAssigner(flavour=flavour)(truth, points.predicted(predictions)) for flavour in FLAVOURS[1:]
    )
    assert newer.positive.sum() > older.positive.sum() == 0


def test_needs_strides_only_to_enlarge() -> None:
    assert TaskAlignedAssigner(flavour="ultralytics").needs == {Need.PREDICTIONS, Need.STRIDES}
    assert TaskAlignedAssigner().needs == TaskAlignedAssigner(flavour="ultralytics_8_3").needs == {Need.PREDICTIONS}


@pytest.mark.parametrize(
    "wrong",
    [{"topk": 0}, {"alpha": -1}, {"beta": 0}, {"flavour": "tood"}, {"topk2": 0}, {"eps": 0}, {"memory_bound": 0}],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TaskAlignedAssigner(**wrong)
