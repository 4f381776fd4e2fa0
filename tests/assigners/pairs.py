"""Pairs of objects and candidates for naive oracles: python floats, one pair at a time.

An oracle of a matching has two parts. The cost of a pair is compared with its formula, within rounding. The matching is
then done naively on the assigner's own costs, so that ties are ties for both, and must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core.structures import IGNORED, NEGATIVE, Candidates, GroundTruth
from tests.assigners.scenes import matchable, usable

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Pair:
    """Everything that a cost may read."""

    object: Box
    label: int
    center: tuple[float, float]
    stride: float
    box: Box  # predicted
    scores: list[float]

    @property
    def inside(self) -> float:
        """Distance of the centre to the nearest side, positive inside."""
        x, y = self.center
        return min(x - self.object[0], y - self.object[1], self.object[2] - x, self.object[3] - y)

    @property
    def off_center(self) -> tuple[float, float]:
        """Distance of the centres along both axes."""
        x, y = self.center
        return abs(x - (self.object[0] + self.object[2]) / 2), abs(y - (self.object[1] + self.object[3]) / 2)

    @property
    def iou(self) -> float:
        width = max(min(self.object[2], self.box[2]) - max(self.object[0], self.box[0]), 0.0)
        height = max(min(self.object[3], self.box[3]) - max(self.object[1], self.box[1]), 0.0)
        union = area(self.object) + area(self.box) - width * height
        return width * height / max(union, 1e-6)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def pairs(truth: GroundTruth, candidates: Candidates) -> dict[tuple[int, int], Pair]:
    """Every pair of a real object and a real candidate."""
    assert candidates.predictions is not None
    assert candidates.stride is not None
    objects, labels = truth.boxes.double().tolist(), truth.labels.tolist()
    centers = candidates.centers.double().tolist()
    boxes, scores = candidates.predictions.boxes.double().tolist(), candidates.predictions.scores.double().tolist()
    strides = candidates.stride.double().tolist()
    return {
        (g, n): Pair(tuple(objects[g]), labels[g], tuple(centers[n]), strides[n], tuple(boxes[n]), scores[n])
        for g in matchable(truth)
        for n in usable(candidates)
    }


def assert_pairs(actual: Tensor, expected: Callable[[int, int], float], *, rtol: float = 1e-4) -> None:
    """``actual (G, N)`` is what ``expected`` says of every pair, infinities included."""
    for g in range(actual.shape[0]):
        for n in range(actual.shape[1]):
            ours, naive = float(actual[g, n]), expected(g, n)
            assert math.isclose(ours, naive, rel_tol=rtol, abs_tol=1e-5) or ours == naive, (g, n, ours, naive)


def dynamic_k(cost: Tensor, iou: Tensor, topk: int, candidates: Candidates) -> list[int]:
    """SimOTA's matching as the paper tells it, object by object."""
    objects, count = cost.shape
    answer = [NEGATIVE if valid else IGNORED for valid in candidates.valid]
    takers: dict[int, list[int]] = {}
    for g in range(objects):
        best = torch.sort(iou[g], descending=True).values[:topk]
        ranked = sorted((float(cost[g, n]), n) for n in range(count) if math.isfinite(cost[g, n]))
        for _, n in ranked[: max(1, int(best.sum()))]:
            takers.setdefault(n, []).append(g)
    for n, objects_of in takers.items():
        everyone = sorted((float(cost[g, n]), g) for g in range(objects))
        answer[n] = objects_of[0] if len(objects_of) == 1 else everyone[0][1]
    return answer
