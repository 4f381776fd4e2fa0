"""ATSS, SimOTA and task alignment as one writes them first: an image at a time, an object at a time.

What the batched assigners are measured against. Each returns ``(N,)`` object numbers of one image, -1 where none, and
the IoU of every candidate with its best object, as the assigners do.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, one_hot
from torchvision.ops import box_iou


def atss(boxes: Tensor, anchors: Tensor, level: Tensor, topk: int = 9) -> tuple[Tensor, Tensor]:
    """Adaptive training sample selection."""
    owner = torch.full((len(anchors),), -1)
    owner_iou = torch.zeros(len(anchors))
    max_iou = torch.zeros(len(anchors))
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    for number, box in enumerate(boxes):
        iou = box_iou(box[None], anchors)[0]
        max_iou = torch.maximum(max_iou, iou)
        distance = (centers - (box[:2] + box[2:]) / 2).square().sum(-1)
        competitors = []
        for k in level.unique():
            here = torch.where(level == k)[0]
            competitors.append(here[distance[here].topk(min(topk, len(here)), largest=False).indices])
        index = torch.cat(competitors)
        threshold = iou[index].mean() + iou[index].std()
        inside = torch.cat((centers[index] - box[:2], box[2:] - centers[index]), -1).amin(-1) > 0.01
        index = index[(iou[index] >= threshold) & inside]
        index = index[iou[index] > owner_iou[index]]
        owner[index], owner_iou[index] = number, iou[index]
    return owner, max_iou


def simota(
    boxes: Tensor,
    labels: Tensor,
    anchors: Tensor,
    stride: Tensor,
    scores: Tensor,
    predicted: Tensor,
    radius: float = 2.5,
    topk: int = 10,
) -> tuple[Tensor, Tensor]:
    """Simplified optimal transport, mmdetection's form."""
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    max_iou = torch.zeros(len(anchors))
    in_box, in_center = [], []
    for box in boxes:
        max_iou = torch.maximum(max_iou, box_iou(box[None], anchors)[0])
        in_box.append(torch.cat((centers - box[:2], box[2:] - centers), -1).amin(-1) > 0)
        away = (centers - (box[:2] + box[2:]) / 2).abs().amax(-1)
        in_center.append(away < radius * stride)
    possible = torch.stack(in_box + in_center).any(0)
    where = torch.where(possible)[0]
    costs, matched = [], []
    for number, box in enumerate(boxes):
        iou = box_iou(box[None], predicted[where])[0]
        target = one_hot(labels[number], scores.shape[1]).float().expand(len(where), -1)
        classification = binary_cross_entropy(scores[where], target, reduction="none").sum(-1)
        both = in_box[number][where] & in_center[number][where]
        cost = classification - 3.0 * torch.log(iou + 1e-7) + 1e5 * ~both
        count = max(1, int(iou.topk(min(topk, len(iou))).values.sum()))
        mine = torch.zeros(len(where), dtype=torch.bool)
        mine[cost.topk(count, largest=False).indices] = True
        costs.append(cost)
        matched.append(mine)
    owner = torch.full((len(anchors),), -1)
    for n in torch.stack(matched).any(0).nonzero()[:, 0].tolist():
        takers = [number for number, mine in enumerate(matched) if mine[n]]
        rivals = takers if len(takers) == 1 else range(len(boxes))
        owner[where[n]] = min(rivals, key=lambda number: float(costs[number][n]))
    return owner, max_iou


def task_aligned(
    boxes: Tensor,
    labels: Tensor,
    anchors: Tensor,
    scores: Tensor,
    predicted: Tensor,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> tuple[Tensor, Tensor]:
    """Task alignment learning, mmdetection's form."""
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    owner = torch.full((len(anchors),), -1)
    owner_iou = torch.zeros(len(anchors))
    max_iou = torch.zeros(len(anchors))
    for number, box in enumerate(boxes):
        max_iou = torch.maximum(max_iou, box_iou(box[None], anchors)[0])
        iou = box_iou(box[None], predicted)[0]
        alignment = scores[:, labels[number]] ** alpha * iou**beta
        index = alignment.topk(min(topk, len(anchors))).indices
        inside = torch.cat((centers[index] - box[:2], box[2:] - centers[index]), -1).amin(-1) > 0.01
        index = index[inside & (alignment[index] > 0)]
        index = index[iou[index] > owner_iou[index]]
        owner[index], owner_iou[index] = number, iou[index]
    return owner, max_iou
