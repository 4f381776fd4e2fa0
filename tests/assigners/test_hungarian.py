"""HungarianAssigner against every possible matching of a few objects."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.building_blocks.padding import clean
from harness.assigners.hungarian import HungarianAssigner
from harness.core.structures import Candidates, GroundTruth, Predictions
from tests.assigners.pairs import Pair, area, assert_pairs, pairs
from tests.assigners.scenes import DTYPES, KINDS, corner_anchors, matchable, one_object, scene, usable


def classification(pair: Pair, kind: str) -> float:
    p = pair.scores[pair.label]
    if kind == "probability":
        return -p
    absent = -math.log(1 - p + 1e-12) * 0.75 * p**2
    return -math.log(p + 1e-12) * 0.25 * (1 - p) ** 2 - absent


def distance(pair: Pair, box_format: str, width: float, height: float) -> float:
    def shape(b: tuple) -> tuple:
        return ((b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]) if box_format == "xywh" else b

    scale = (width, height, width, height)
    return sum(abs(a - b) / s for a, b, s in zip(shape(pair.object), shape(pair.box), scale, strict=True))


def generalised_iou(pair: Pair) -> float:
    one, other = pair.object, pair.box
    enclosure = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
    width = max(min(one[2], other[2]) - max(one[0], other[0]), 0.0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]), 0.0)
    union = area(one) + area(other) - width * height
    return pair.iou - (max(enclosure, 1e-6) - max(union, 1e-6)) / max(enclosure, 1e-6)


@given(
    st.builds(
        scene,
        seed=st.integers(0, 2**31),
        kind=st.sampled_from(KINDS),
        objects=st.integers(0, 4),
        count=st.integers(0, 5),
        dtype=st.sampled_from(DTYPES),
    ),
    st.sampled_from(("probability", "focal")),
    st.sampled_from(("xywh", "xyxy")),
    st.sampled_from(("giou", "iou")),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(
    drawn: tuple[GroundTruth, Candidates], cls_cost: str, box_format: str, iou_mode: str
) -> None:
    truth, candidates = clean(*drawn)
    assigner = HungarianAssigner(cls_cost=cls_cost, box_format=box_format, iou_mode=iou_mode, image_size=(48, 64))
    terms, known = assigner.costs(truth, candidates), pairs(truth, candidates)

    def overlap(pair: Pair) -> float:
        return generalised_iou(pair) if iou_mode == "giou" else pair.iou

    for g, n in known:
        pair, inputs = known[g, n], {name: float(term[g, n]) for name, term in terms.items()}
        assert math.isclose(inputs["classification"], classification(pair, cls_cost), rel_tol=1e-4, abs_tol=1e-5)
        assert math.isclose(inputs["l1"], 5 * distance(pair, box_format, 64, 48), rel_tol=1e-4, abs_tol=1e-5)
        assert math.isclose(inputs["iou"], -2 * overlap(pair), rel_tol=1e-4, abs_tol=1e-4)

    total = sum(terms.values())
    found = assigner(*drawn)
    matched = [(g, n) for n, g in enumerate(found.gt_index.tolist()) if g >= 0]
    objects, partners = matchable(truth), usable(candidates)
    assert len(matched) == len({g for g, _ in matched}) == min(len(objects), len(partners))
    few, many = sorted((objects, partners), key=len)
    cheapest = min(
        sum(float(total[pair if few is objects else pair[::-1]]) for pair in zip(few, order, strict=True))
        for order in permutations(many, len(few))
    )
    assert math.isclose(sum(float(total[pair]) for pair in matched), cheapest, rel_tol=1e-5, abs_tol=1e-5)


def test_the_image_is_as_large_as_the_candidates_say() -> None:
    truth, candidates = scene(2)
    known = HungarianAssigner(image_size=(48, 64)).costs(truth, candidates)["l1"]
    torch.testing.assert_close(HungarianAssigner().costs(truth, candidates)["l1"], known)
    assert_pairs(known, lambda g, n: 5 * distance(pairs(truth, candidates)[g, n], "xywh", 64, 48))


def test_anchors_past_the_border_do_not_make_the_image_larger() -> None:
    candidates = corner_anchors([(8, 8), (200, 100)])
    scores = torch.full((len(candidates.boxes), 1), 0.5)
    candidates = candidates.predicted(Predictions(scores, candidates.boxes))
    truth = one_object(60, 60, 30, 20)
    known = HungarianAssigner(image_size=(124, 124)).costs(truth, candidates)["l1"]
    torch.testing.assert_close(HungarianAssigner().costs(truth, candidates)["l1"], known)
    proposals = replace(candidates, stride=None, level=None)
    known = HungarianAssigner(image_size=(170, 220)).costs(truth, proposals)["l1"]
    torch.testing.assert_close(HungarianAssigner().costs(truth, proposals)["l1"], known)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cls_weight": -1},
        {"l1_weight": -1},
        {"iou_weight": -1},
        {"cls_weight": 0, "l1_weight": 0, "iou_weight": 0},
        {"cls_cost": "softmax"},
        {"box_format": "yxyx"},
        {"iou_mode": "ciou"},
        {"focal_alpha": 3},
        {"focal_gamma": -1},
        {"image_size": (0, 10)},
        {"memory_bound": 0},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HungarianAssigner(**wrong)
