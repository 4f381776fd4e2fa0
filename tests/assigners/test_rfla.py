"""RFLAAssigner against its two steps, object by object."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.assigners.building_blocks.gaussian_boxes import SIMILARITIES, divergence
from harness.assigners.building_blocks.padding import clean
from harness.assigners.building_blocks.point_squares import with_squares
from harness.assigners.rfla import RFLAAssigner
from harness.core.boxes import scaled
from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import matchable, points, scene, scenes, truth_of, usable


def naive_divergence(one: list[float], other: list[float]) -> float:
    """KL of the Gaussian of ``other`` from that of ``one``, whose variances divide (Xu et al. 2022, eq. 7)."""
    total = 0.0
    for axis in range(2):
        mean = (one[axis] + one[axis + 2] - other[axis] - other[axis + 2]) / 2
        ours, theirs = ((box[axis + 2] - box[axis]) / 2 for box in (one, other))
        total += (theirs**2 / ours**2 + mean**2 / ours**2 - 1 - math.log(theirs**2 / ours**2)) / 2
    return total


def test_divergence_equals_the_formula() -> None:
    truth, candidates = clean(*scene(4, objects=5, anchors=True))
    found = divergence(truth.boxes, candidates.boxes)
    for g, box in enumerate(truth.boxes.double().tolist()):
        for n, other in enumerate(candidates.boxes.double().tolist()):
            assert found[g, n].item() == pytest.approx(naive_divergence(box, other), rel=1e-3, abs=1e-4)


def oracle(truth: GroundTruth, candidates: Candidates, assigner: RFLAAssigner) -> list[int]:
    """Both steps on the similarities themselves, so that ties are ties for both."""
    clean_truth, fields = clean(truth, candidates)
    fields = with_squares(fields, assigner.point_scale)
    shrunk = scaled(fields.boxes, assigner.ratio)
    tables = [assigner.similarity(clean_truth.boxes, boxes).tolist() for boxes in (fields.boxes, shrunk)]
    objects, real = matchable(truth), usable(candidates)
    steps: list[dict[int, int]] = []
    for table, k in zip(tables, (assigner.topk, assigner.second_topk), strict=True):
        taken: dict[int, int] = {}
        for g in objects:
            best = sorted((table[g][n] for n in real if table[g][n] > 0), reverse=True)[:k]
            taken |= {n: g for n in real if best and table[g][n] >= best[-1]}
        steps.append(taken)
    answer = [IGNORED] * len(candidates.boxes)
    for n in real:
        answer[n] = steps[0].get(n, steps[1].get(n, NEGATIVE))
        if answer[n] == NEGATIVE and max((tables[1][g][n] for g in objects), default=0.0) >= assigner.ignore_thr:
            answer[n] = IGNORED
        elif assigner.inside and answer[n] >= 0:
            x, y = fields.centers[n].tolist()
            box = clean_truth.boxes[answer[n]].tolist()
            if not (box[0] < x < box[2] and box[1] < y < box[3]):
                answer[n] = NEGATIVE
    return answer


@pytest.mark.parametrize("anchors", [False, True])
@given(data=st.data(), metric=st.sampled_from(sorted(SIMILARITIES)), inside=st.booleans())
@settings(max_examples=30, deadline=None)
def test_equals_the_oracle(data: st.DataObject, anchors: bool, metric: str, inside: bool) -> None:
    drawn = data.draw(scenes(anchors=anchors))
    assigner = RFLAAssigner(3, 2, assign_metric=metric, inside=inside, ignore_thr=0.5, point_scale=3.0)
    assert assigner(*drawn).gt_index.tolist() == oracle(*drawn, assigner)


def test_objects_of_every_size_get_positives() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = truth_of(generator, "plain", 6, torch.float32)
    center = torch.rand(6, 2, generator=generator) * 200 + 20
    half = torch.tensor([1.0, 2, 4, 8, 16, 32]).unsqueeze(-1)
    truth = replace(truth, boxes=torch.cat((center - half, center + half), -1))
    found = RFLAAssigner()(truth, points(256))
    assert torch.bincount(found.gt_index[found.positive], minlength=6).min() >= 3


def test_refuses() -> None:
    with pytest.raises(ValueError, match="second_topk=0 must be a whole number of at least 1"):
        RFLAAssigner(second_topk=0)
    with pytest.raises(ValueError, match="assign_metric='iou' must be one of kl"):
        RFLAAssigner(assign_metric="iou")
