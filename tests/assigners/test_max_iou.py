"""MaxIoUAssigner and torchvision's two matchers against double loops over objects and candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection._utils import SSDMatcher as TorchvisionSSDMatcher
from torchvision.ops import box_iou

from harness.assigners.max_iou import MaxIoUAssigner
from harness.assigners.ssd import SSDMatcher
from harness.assigners.torchvision import TorchvisionMatcher
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import iou, matchable, numbers, scene, scenes, usable


def overlaps(truth: GroundTruth, candidates: Candidates) -> dict[tuple[int, int], float]:
    objects, boxes = numbers(truth.boxes), numbers(candidates.boxes)
    return {(g, n): iou(objects[g], boxes[n]) for g in matchable(truth) for n in usable(candidates)}


def best_object(table: dict[tuple[int, int], float], objects: list[int], n: int) -> int:
    """The first of those with the highest IoU."""
    return max(objects, key=lambda g: (table[g, n], -g))


def covered(truth: GroundTruth, candidates: Candidates, n: int, threshold: float, wrt_candidates: bool) -> bool:
    if threshold <= 0:
        return False
    box = numbers(candidates.boxes)[n]
    for g, region in enumerate(numbers(truth.boxes)):
        if not (truth.crowd[g] and truth.valid[g]):
            continue
        zero = type(box[0])(0)
        width = max(min(box[2], region[2]) - max(box[0], region[0]), zero)
        height = max(min(box[3], region[3]) - max(box[1], region[1]), zero)
        whole = box if wrt_candidates else region
        if width * height / max((whole[2] - whole[0]) * (whole[3] - whole[1]), type(zero)(1e-6)) > threshold:
            return True
    return False


def max_iou_oracle(truth: GroundTruth, candidates: Candidates, p: dict) -> list[int]:
    objects, table = matchable(truth), overlaps(truth, candidates)
    answer = [IGNORED] * len(candidates.boxes)
    if not objects:
        return [NEGATIVE if valid else IGNORED for valid in candidates.valid]
    low, high = (0, p["neg_iou_thr"]) if np.isscalar(p["neg_iou_thr"]) else p["neg_iou_thr"]
    open_to = [
        n
        for n in usable(candidates)
        if not covered(truth, candidates, n, p["ignore_iof_thr"], p["ignore_wrt_candidates"])
    ]
    for n in open_to:
        best = best_object(table, objects, n)
        if low <= table[best, n] < high:
            answer[n] = NEGATIVE
        if table[best, n] >= p["pos_iou_thr"]:
            answer[n] = best
    for g in objects if p["match_low_quality"] and open_to else []:
        highest = max(table[g, n] for n in open_to)
        if highest >= p["min_pos_iou"]:
            tied = [n for n in open_to if table[g, n] == highest]
            for n in tied if p["gt_max_assign_all"] else tied[:1]:
                answer[n] = g
    return answer


def torchvision_oracle(truth: GroundTruth, candidates: Candidates, high: float, low: float, keep: bool) -> list[int]:
    objects, table = matchable(truth), overlaps(truth, candidates)
    answer = [IGNORED] * len(candidates.boxes)
    real = usable(candidates)
    for n in real:
        answer[n] = NEGATIVE
        if not objects:
            continue
        best = best_object(table, objects, n)
        if table[best, n] >= low:
            answer[n] = IGNORED
        wanted = keep and any(table[g, n] == max(table[g, m] for m in real) for g in objects)
        if table[best, n] >= high or wanted:
            answer[n] = best
    return answer


def ssd_oracle(truth: GroundTruth, candidates: Candidates, threshold: float) -> list[int]:
    answer = torchvision_oracle(truth, candidates, threshold, threshold, keep=False)
    table, real = overlaps(truth, candidates), usable(candidates)
    for g in matchable(truth) if real else []:
        answer[max(real, key=lambda n: (table[g, n], -n))] = g
    return answer


PARAMETERS = st.fixed_dictionaries(
    {
        "pos_iou_thr": st.sampled_from((0.3, 0.5, 0.7)),
        "neg_iou_thr": st.sampled_from((0.3, 0.5, 1, (0.1, 0.4))),
        "min_pos_iou": st.sampled_from((0.0, 0.2, 0.5)),
        "gt_max_assign_all": st.booleans(),
        "match_low_quality": st.booleans(),
        "ignore_iof_thr": st.sampled_from((-1, 0.2, 0.5)),
        "ignore_wrt_candidates": st.booleans(),
    }
)


@given(scenes(anchors=True), PARAMETERS)
@settings(max_examples=60, deadline=None)
def test_max_iou_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], parameters: dict) -> None:
    found = MaxIoUAssigner(**parameters)(*drawn)
    assert found.gt_index.tolist() == max_iou_oracle(*drawn, parameters)


@given(scenes(anchors=True), st.sampled_from(((0.7, 0.3), (0.5, 0.5), (0.5, 0.4))), st.booleans())
@settings(max_examples=50, deadline=None)
def test_torchvision_equals_the_oracle(
    drawn: tuple[GroundTruth, Candidates], thresholds: tuple[float, float], keep: bool
) -> None:
    found = TorchvisionMatcher(*thresholds, allow_low_quality_matches=keep)(*drawn)
    assert found.gt_index.tolist() == torchvision_oracle(*drawn, *thresholds, keep)


@given(scenes(anchors=True), st.sampled_from((0.3, 0.5)))
@settings(max_examples=50, deadline=None)
def test_ssd_equals_the_oracle(drawn: tuple[GroundTruth, Candidates], threshold: float) -> None:
    assert SSDMatcher(threshold)(*drawn).gt_index.tolist() == ssd_oracle(*drawn, threshold)


@pytest.mark.parametrize("kind", ["plain", "ties", "duplicates", "no_area"])
def test_a_thousand_objects(kind: str) -> None:
    truth, candidates = scene(3, kind, objects=1000, anchors=True)
    parameters = {
        "pos_iou_thr": 0.7,
        "neg_iou_thr": 0.3,
        "min_pos_iou": 0.3,
        "gt_max_assign_all": True,
        "match_low_quality": True,
        "ignore_iof_thr": -1,
        "ignore_wrt_candidates": True,
    }
    found = MaxIoUAssigner(**parameters, memory_bound=100_000)(truth, candidates)
    assert found.gt_index.tolist() == max_iou_oracle(truth, candidates, parameters)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keep", [True, False])
def test_bit_equal_to_torchvision(seed: int, keep: bool) -> None:
    """The same order of operations as box_iou: equal objects and equal IoUs, not merely close ones."""
    truth, candidates = scene(seed, "ties" if seed % 2 else "plain", objects=9, anchors=True)
    table = box_iou(truth.boxes, candidates.boxes)
    found = TorchvisionMatcher(0.5, 0.4, allow_low_quality_matches=keep)(truth, candidates)
    assert torch.equal(found.gt_index, Matcher(0.5, 0.4, keep)(table))
    assert torch.equal(found.max_iou, table.amax(0))
    assert torch.equal(SSDMatcher(0.5)(truth, candidates).gt_index, TorchvisionSSDMatcher(0.5)(table))


def test_integer_threshold_is_the_float() -> None:
    drawn = scene(1, anchors=True)
    as_integer = MaxIoUAssigner(0.7, 1, match_low_quality=False)(*drawn)
    assert torch.equal(as_integer.gt_index, MaxIoUAssigner(0.7, 1.0, match_low_quality=False)(*drawn).gt_index)
    assert as_integer.negative.any()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pos_iou_thr": 1.5, "neg_iou_thr": 0.3}, "pos_iou_thr=1.5 must be between 0 and 1"),
        ({"pos_iou_thr": 0.5, "neg_iou_thr": -0.1}, "neg_iou_thr=-0.1 must be between 0 and 1"),
        ({"pos_iou_thr": 0.5, "neg_iou_thr": (0.4, 0.1)}, r"neg_iou_thr=\(0.4, 0.1\) must be a number or a pair"),
        (
            {"pos_iou_thr": 0.5, "neg_iou_thr": (0.1, 0.2, 0.3)},
            r"neg_iou_thr=\(0.1, 0.2, 0.3\) must be a number or a pair",
        ),
        (
            {"pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": float("nan")},
            "min_pos_iou=nan must be between 0 and 1",
        ),
        ({"pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "memory_bound": 0}, "memory_bound=0 must be above 0"),
    ],
)
def test_max_iou_refuses(arguments: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MaxIoUAssigner(**arguments)


def test_torchvision_refuses() -> None:
    with pytest.raises(ValueError, match=r"low_threshold=0.7 must be between 0 and 0.3"):
        TorchvisionMatcher(0.3, 0.7)
    with pytest.raises(ValueError, match="only max_iou takes a pair"):
        TorchvisionMatcher(0.5, (0.1, 0.4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold=2 must be between 0 and 1"):
        SSDMatcher(2)
