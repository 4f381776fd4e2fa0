"""For each method that is measured, ours and the loop it is compared with; both have agreed on the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import per_object_loops
import torch
from assignment_scenes import Scene
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from harness.assigners.atss import ATSSAssigner
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.assigners.torchvision import TorchvisionMatcher
from harness.core.structures import Assignment, CandidateLosses, SamplingResult
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler

Call = Callable[[], object]
T = TypeVar("T")
NUM, POS_FRACTION = 256, 0.5


def matcher(scene: Scene) -> tuple[Call, Call]:
    truth, candidates = scene.truth, scene.candidates
    assigner, sampler = TorchvisionMatcher(0.7, 0.3, True), RandomSampler(NUM, POS_FRACTION)
    theirs, balanced = Matcher(0.7, 0.3, True), BalancedPositiveNegativeSampler(NUM, POS_FRACTION)

    def ours() -> tuple[Assignment, SamplingResult]:
        assignment = assigner(truth, candidates)
        noise = torch.rand(candidates.valid.shape, device=candidates.valid.device)
        return assignment, sampler(truth, candidates, assignment, noise=noise)

    def loop() -> tuple[list[Tensor], tuple[list[Tensor], list[Tensor]]]:
        labels, matches = [], []
        for boxes, anchors in zip(truth.boxes, candidates.boxes, strict=True):
            matched = theirs(box_iou(boxes, anchors))
            label = (matched >= 0).float()
            label[matched == Matcher.BETWEEN_THRESHOLDS] = -1.0
            labels.append(label)
            matches.append(matched)
        positive, negative = balanced(labels)
        chosen = torch.where(torch.cat(positive))[0], torch.where(torch.cat(negative))[0]
        return matches, ([chosen[0]], [chosen[1]])

    found, sample = ours()
    matches, chosen = loop()
    assert torch.equal(found.gt_index, torch.stack(matches)), "the assignments differ"
    assert int(sample.positive.sum()) == len(chosen[0][0]), "the numbers of sampled positives differ"
    assert int(sample.negative.sum()) == len(chosen[1][0]), "the numbers of sampled negatives differ"
    return ours, loop


def atss(scene: Scene) -> tuple[Call, Call]:
    truth, candidates, assigner = scene.truth, scene.candidates, ATSSAssigner()
    level = required(candidates.level)

    def loop() -> Tensor:
        pairs = zip(truth.boxes, candidates.boxes, strict=True)
        return torch.stack([per_object_loops.atss(boxes, anchors, level)[0] for boxes, anchors in pairs])

    return agreeing(lambda: assigner(truth, candidates), loop)


def simota(scene: Scene) -> tuple[Call, Call]:
    truth, candidates, assigner = scene.truth, scene.candidates, SimOTAAssigner()
    predictions, stride = required(candidates.predictions), required(candidates.stride)

    def loop() -> Tensor:
        images = zip(truth.boxes, truth.labels, candidates.boxes, predictions.scores, predictions.boxes, strict=True)
        return torch.stack([per_object_loops.simota(b, n, a, stride, s, p)[0] for b, n, a, s, p in images])

    return agreeing(lambda: assigner(truth, candidates), loop)


def task_aligned(scene: Scene) -> tuple[Call, Call]:
    truth, candidates, assigner = scene.truth, scene.candidates, TaskAlignedAssigner()
    predictions = required(candidates.predictions)

    def loop() -> Tensor:
        images = zip(truth.boxes, truth.labels, candidates.boxes, predictions.scores, predictions.boxes, strict=True)
        return torch.stack([per_object_loops.task_aligned(*image)[0] for image in images])

    return agreeing(lambda: assigner(truth, candidates), loop)


def ohem(scene: Scene) -> tuple[Call, Call]:
    truth, candidates = scene.truth, scene.candidates
    assignment = TorchvisionMatcher(0.7, 0.3, True)(truth, candidates)
    losses = CandidateLosses(-scene.noise.log(), torch.zeros_like(scene.noise))
    hard, random = OHEMSampler(NUM, POS_FRACTION), RandomSampler(NUM, POS_FRACTION)

    def ours() -> SamplingResult:
        return hard(truth, candidates, assignment, losses=losses)

    def theirs() -> SamplingResult:
        noise = torch.rand(scene.noise.shape, device=scene.noise.device)
        return random(truth, candidates, assignment, noise=noise)

    assert torch.equal(ours().positive.sum(-1), theirs().positive.sum(-1)), "the numbers of positives differ"
    return ours, theirs


METHODS = {"matcher": matcher, "atss": atss, "simota": simota, "task_aligned": task_aligned, "ohem": ohem}


def agreeing(ours: Callable[[], Assignment], loop: Callable[[], Tensor]) -> tuple[Call, Call]:
    """Both, if their answers agree but for ties at rounding level."""
    found, expected = ours().gt_index, loop()
    positive = (found >= 0) | (expected >= 0)
    share = float((found.clamp(min=-1) == expected)[positive].float().mean()) if positive.any() else 1.0
    assert share > 0.99, f"only {share:.4f} of the positives agree"
    return ours, loop


def required(value: T | None) -> T:
    assert value is not None
    return value
