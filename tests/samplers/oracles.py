"""The samplers once more, as naively as their papers tell them: lists, one image, one candidate at a time.

A random choice takes those with the largest noise, so that the answers can be compared one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.samplers.building_blocks.slots import second_noise
from tests.samplers.scenes import Scene

Weights = dict[int, tuple[bool, float]]  # candidate: (as a positive?, weight)


@dataclass(frozen=True)
class Image:
    """One image as lists."""

    positives: list[int]
    negatives: list[int]
    gt_index: list[int]
    labels: list[int]
    boxes: list[list[float]]
    iou: list[np.float32]
    valid: list[bool]
    noise: list[float]
    other_noise: list[float]
    cls: list[float]
    total: list[float]
    scores: list[list[float]]
    predicted: list[list[float]]

    @classmethod
    def of(cls, scene: Scene, index: int) -> Image:
        gt_index, valid = scene.assignment.gt_index[index].tolist(), scene.candidates.valid[index].tolist()
        real = [i for i in range(len(valid)) if valid[i]]
        predictions = scene.candidates.predictions
        assert predictions is not None
        return cls(
            positives=[i for i in real if gt_index[i] >= 0],
            negatives=[i for i in real if gt_index[i] == -1],
            gt_index=gt_index,
            labels=scene.truth.labels[index].tolist(),
            boxes=scene.candidates.boxes[index].tolist(),
            iou=list(scene.assignment.max_iou[index].numpy()),
            valid=valid,
            noise=scene.noise[index].tolist(),
            other_noise=second_noise(scene.noise)[index].tolist(),
            cls=scene.losses.classification[index].tolist(),
            total=scene.losses.total[index].tolist(),
            scores=predictions.scores[index].tolist(),
            predicted=predictions.boxes[index].tolist(),
        )


def first(members: Sequence[int], priority: Sequence[float], count: int) -> list[int]:
    """The members of the largest priority; the lower index in a tie; what is not a number comes last."""

    def key(i: int) -> tuple[float, int]:
        return (math.inf if math.isnan(priority[i]) else -priority[i], i)

    return sorted(members, key=key)[: max(count, 0)]


def ones(positives: Sequence[int], negatives: Sequence[int]) -> Weights:
    return dict.fromkeys(positives, (True, 1.0)) | dict.fromkeys(negatives, (False, 1.0))


def negatives_left(num: int, positives: int, neg_pos_ub: float) -> int:
    left = num - positives
    return min(left, int(neg_pos_ub * max(1, positives))) if neg_pos_ub >= 0 else left


def random(image: Image, num: int, pos_fraction: float, neg_pos_ub: float = -1) -> Weights:
    positives = first(image.positives, image.noise, int(num * pos_fraction))
    left = negatives_left(num, len(positives), neg_pos_ub)
    return ones(positives, first(image.negatives, image.noise, left))


def ohem(image: Image, num: int, pos_fraction: float, neg_pos_ub: float = -1) -> Weights:
    positives = first(image.positives, image.cls, int(num * pos_fraction))
    left = negatives_left(num, len(positives), neg_pos_ub)
    return ones(positives, first(image.negatives, image.cls, left))


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def ohem_paper(image: Image, num: int, pos_fraction: float) -> Weights:
    label = dict.fromkeys(image.negatives, 0) | {i: image.labels[image.gt_index[i]] + 1 for i in image.positives}
    kept: list[int] = []
    for i in first(sorted(label), image.total, len(label)):
        if all(label[i] != label[j] or box_iou(image.boxes[i], image.boxes[j]) <= 0.7 for j in kept):
            kept.append(i)
    return {i: (label[i] > 0, 1.0) for i in kept[:num]}


def iou_balanced_negatives(
    image: Image, expected: int, floor_thr: float = -1, floor_fraction: float = 0, num_bins: int = 3
) -> list[int]:
    if len(image.negatives) <= expected:
        return image.negatives
    if floor_thr < 0:
        floor: list[int] = []
    elif floor_thr == 0:
        floor = [i for i in image.negatives if image.iou[i] == 0]
    else:
        floor = [i for i in image.negatives if image.iou[i] < np.float32(floor_thr)]
    rest = [i for i in image.negatives if i not in floor]
    wanted = int(expected * (1 - floor_fraction))
    chosen = list(rest)
    reserve: list[int] = []
    if len(rest) > wanted:
        chosen = from_bins(image, rest, wanted, max(floor_thr, 0), num_bins) if num_bins > 1 else []
        reserve = first([i for i in rest if i not in chosen], image.other_noise, len(rest))
        missing = wanted - len(chosen)
        chosen, reserve = chosen + reserve[:missing], reserve[missing:]
    chosen += first(floor, image.other_noise, expected - len(chosen))
    return chosen + reserve[: expected - len(chosen)]


def from_bins(image: Image, members: list[int], wanted: int, floor: float, num_bins: int) -> list[int]:
    largest = max(iou for iou, valid in zip(image.iou, image.valid, strict=True) if valid)
    width = (largest - np.float32(floor)) / np.float32(num_bins)
    chosen: list[int] = []
    for k in range(num_bins):
        low, high = np.float32(floor) + np.float32(k) * width, np.float32(floor) + np.float32(k + 1) * width
        chosen += first([i for i in members if low <= image.iou[i] < high], image.noise, wanted // num_bins)
    return chosen


def iou_balanced(image: Image, num: int, pos_fraction: float, neg_pos_ub: float = -1, **bins: float) -> Weights:
    positives = first(image.positives, image.noise, int(num * pos_fraction))
    left = negatives_left(num, len(positives), neg_pos_ub)
    return ones(positives, iou_balanced_negatives(image, left, **bins))


def instance_balanced_positives(image: Image, expected: int) -> list[int]:
    if len(image.positives) <= expected:
        return image.positives
    owners = sorted({image.gt_index[i] for i in image.positives})
    offers = round(expected / len(owners)) + 1
    offered: list[int] = []
    for owner in owners:
        own = [i for i in image.positives if image.gt_index[i] == owner]
        offered += sorted(own, key=lambda i: (image.noise[i], i))[:offers]
    if len(offered) >= expected:
        return first(offered, image.other_noise, expected)
    others = [i for i in image.positives if i not in offered]
    return offered + first(others, image.other_noise, expected - len(offered))


def instance_balanced(image: Image, num: int, pos_fraction: float) -> Weights:
    positives = instance_balanced_positives(image, int(num * pos_fraction))
    return ones(positives, first(image.negatives, image.noise, num - len(positives)))


def combined(image: Image, num: int, pos_fraction: float) -> Weights:
    positives = instance_balanced_positives(image, int(num * pos_fraction))
    return ones(positives, iou_balanced_negatives(image, num - len(positives)))


def hard_negative(image: Image, num: int, pos_fraction: float) -> Weights:
    return ones(image.positives, first(image.negatives, image.cls, 3 * len(image.positives)))


def topk_loss(image: Image, num: int, pos_fraction: float) -> Weights:
    everyone = sorted(image.positives + image.negatives)
    kept = first(everyone, image.cls, len(everyone) * 7 // 10)
    return ones([i for i in kept if i in image.positives], [i for i in kept if i in image.negatives])


def everything(image: Image, num: int, pos_fraction: float) -> Weights:
    return ones(image.positives, image.negatives)


def matched_random(image: Image, num: int, pos_fraction: float) -> Weights:
    other = list(ohem_paper(image, num, pos_fraction).values())
    num_pos = sum(positive for positive, _ in other)
    return ones(
        first(image.positives, image.other_noise, num_pos),
        first(image.negatives, image.other_noise, len(other) - num_pos),
    )


def score_hlr(image: Image, num: int, pos_fraction: float, score_thr: float = 0.05, iou_thr: float = 0.5) -> Weights:
    positives = first(image.positives, image.noise, int(num * pos_fraction))
    count = min(num - len(positives), len(image.negatives))
    best = [max(scores) for scores in image.scores]
    confident = [i for i in image.negatives if best[i] > score_thr]
    waiting = first(confident, best, len(confident))
    importance = {}
    while waiting:
        leader = waiting[0]
        group = [leader] + [i for i in waiting[1:] if box_iou(image.predicted[leader], image.predicted[i]) >= iou_thr]
        for place, i in enumerate(group):
            importance[i] = np.float32(len(confident) - place) + np.float32(best[i])
        waiting = [i for i in waiting if i not in group]
    ranked = sorted(confident, key=lambda i: (-importance[i], i))[:count]
    others = first([i for i in image.negatives if i not in confident], image.noise, count - len(ranked))
    if not confident or count == 0:
        return ones(positives, ranked + others)
    bound = max(len(confident), count)
    weights = [math.sqrt((bound - place) / bound) for place in range(len(ranked))]
    weights += [weights[-1]] * len(others)
    losses = [0.0 if math.isnan(image.cls[i]) else max(0.0, image.cls[i]) for i in ranked + others]
    total, weighted = sum(losses), sum(w * loss for w, loss in zip(weights, losses, strict=True))
    ratio = total / weighted if weighted != 0 and math.isfinite(total) and math.isfinite(weighted) else 1.0
    negatives = {i: (False, w * ratio) for i, w in zip(ranked + others, weights, strict=True)}
    return ones(positives, []) | negatives


def soft_sampling(image: Image, num: int, pos_fraction: float) -> Weights:
    chosen = random(image, num, pos_fraction)
    weight = {i: 0.25 + 0.75 * math.exp(-50 * math.exp(-20 * float(image.iou[i]))) for i in chosen}
    return {i: (positive, 1.0 if positive else weight[i]) for i, (positive, _) in chosen.items()}


def loss_rank_mining(image: Image, num: int, pos_fraction: float) -> Weights:
    everyone = sorted(image.positives + image.negatives)
    kept: list[int] = []
    for i in first(everyone, image.total, len(everyone)):
        if all(box_iou(image.predicted[i], image.predicted[j]) <= 0.7 for j in kept):
            kept.append(i)
    return {i: (i in image.positives, 1.0) for i in kept[:num]}


# What only weighs the losses of another sampler's choice chooses as that one does.
ORACLES: dict[str, Callable[..., Weights]] = {
    "random": random,
    "ohem": ohem,
    "ohem_paper": ohem_paper,
    "iou_balanced": iou_balanced,
    "instance_balanced": instance_balanced,
    "combined": combined,
    "hard_negative": hard_negative,
    "topk_loss": topk_loss,
    "all": everything,
    "matched_random": matched_random,
    "score_hlr": score_hlr,
    "isr_p": random,
    "pisa": score_hlr,
    "soft_sampling": soft_sampling,
    "loss_rank_mining": loss_rank_mining,
    "offline_symmetric": random,
    "offline_hard": random,  # before anything was mined; with stored boxes: tests/samplers/test_offline_hard.py
}
