"""Scenes of any size for the benchmark of target assignment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from harness.core.structures import Candidates, GroundTruth, Predictions

STRIDES = (8, 16, 32)
CLASSES = 80


@dataclass(frozen=True)
class Scene:
    """A batch: every image has all objects and candidates, so that no side gains by padding."""

    truth: GroundTruth
    candidates: Candidates
    noise: Tensor


def make_scene(batch: int, count: int, objects: int, device: torch.device, predicted: bool) -> Scene:
    """Square anchors on three levels, boxes of 8 to 400 px; where asked, predictions as good as in mid-training."""
    random = torch.Generator().manual_seed(0)
    side = STRIDES[0] * math.ceil((count / sum((STRIDES[0] / s) ** 2 for s in STRIDES)) ** 0.5 - 1e-6)
    boxes, level, stride = [], [], []
    for number, step in enumerate(STRIDES):
        ticks = torch.arange(-(-side // step)) * step + step / 2
        center = torch.cartesian_prod(ticks, ticks).flip(-1)
        boxes.append(torch.cat((center - 2 * step, center + 2 * step), -1))
        level.append(torch.full((len(center),), number))
        stride.append(torch.full((len(center),), float(step)))
    anchors = torch.cat(boxes)[:count]
    assert len(anchors) == count
    size = 8 * 50 ** torch.rand(batch, objects, 2, generator=random)
    corner = torch.rand(batch, objects, 2, generator=random) * side
    truth_boxes = torch.cat((corner - size / 2, corner + size / 2), -1)
    labels = torch.randint(0, CLASSES, (batch, objects), generator=random)
    predictions = None
    if predicted:  # not for all: a GiB of scores at 200,000 x 80 x 16
        nearest = box_iou(truth_boxes[0], anchors).argmax(0)
        boxes_now = (anchors + truth_boxes[:, nearest]) / 2 + torch.randn(batch, count, 4, generator=random) * 8
        scores = torch.rand(batch, count, CLASSES, generator=random) ** 4
        predictions = Predictions(scores.to(device), boxes_now.to(device))
    truth = GroundTruth(
        truth_boxes.to(device),
        labels.to(device),
        torch.ones(batch, objects, dtype=torch.bool, device=device),
        torch.zeros(batch, objects, dtype=torch.bool, device=device),
    )
    candidates = Candidates(
        anchors.to(device).expand(batch, -1, -1),
        torch.ones(batch, count, dtype=torch.bool, device=device),
        torch.cat(level)[:count].to(device),
        torch.cat(stride)[:count].to(device),
        len(STRIDES),
        predictions,
    )
    return Scene(truth, candidates, torch.rand(batch, count, generator=random).to(device))
