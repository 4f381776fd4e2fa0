"""From one value per slot to one number: the only place where a loss is divided by anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from harness.core.processes import process_count, reduce_sum
from harness.core.structures import SamplingResult


class Normalizer(StrEnum):
    """What the summed values of a term are divided by: at least 1, but for ``weights`` and the floor of ``quality``."""

    SAMPLED = "sampled"  # used slots of the batch (Faster R-CNN)
    POSITIVES = "positives"  # positive slots of the batch (SSD, FCOS)
    IMAGE_POSITIVES = "image_positives"  # those of each image, then the mean over images (torchvision's RetinaNet)
    AVG_FACTOR = "avg_factor"  # positive slots of each image, at least 1 each, summed (mmdetection's anchor heads)
    POSITIVES_OR_IMAGES = "positives_or_images"  # positive slots of the batch, at least one per image (PAA)
    QUALITY = "quality"  # the positives' box weights, summed: centerness, IoU, alignment, ... (loss.box_weight)
    WEIGHTS = "weights"  # the sum of the slots' weights
    LEVEL_POSITIVES = "level_positives"  # positives' weights of each level, then the sum over levels (YOLOv5, YOLOv7)
    LEVEL_SAMPLED = "level_sampled"  # used slots of each level, then the sum over levels (their objectness)
    ONE = "one"  # nothing: the plain sum (YOLOv3)


class BoxWeight(StrEnum):
    """How much the box of a positive counts."""

    ONE = "one"
    CENTERNESS = "centerness"  # the centerness target of FCOS (Tian 2019, eq. 3)
    IOU = "iou"  # IoU of the predicted box with its object (PAA, RTMDet)
    SCORE = "score"  # the largest class probability of the slot (GFL)
    ASSIGNED = "assigned"  # the assigner's own quality: the alignment of TOOD and YOLOv8


@dataclass(frozen=True)
class Counts:
    """What a normalizer counts, ``(B, S)`` each."""

    sample: SamplingResult
    box_weight: Tensor | None = None  # >= 0 of the positives; None: 1
    level: Tensor | None = None  # int64, the slots' pyramid levels
    num_levels: int = 1

    @property
    def positive(self) -> Tensor:
        """``(B, S)`` bool: the positive slots that count."""
        return self.sample.positive & self.sample.used

    @property
    def quality(self) -> Tensor:
        """``(B, S)`` box weights of the positive slots, 0 elsewhere."""
        positive = self.sample.positive * self.sample.weight
        return positive if self.box_weight is None else positive * self.box_weight


def reduce(
    values: Tensor,
    counts: Counts,
    normalizer: Normalizer,
    *,
    quality_floor: float = 1.0,
    level_weights: tuple[float, ...] | None = None,
) -> Tensor:
    """The scalar of the ``(B, S)`` values of a term.

    Args:
        values: already multiplied by the slots' weights.
        counts: of the same slots.
        normalizer: what their sum is divided by, summed over all processes.
        quality_floor: the least that ``quality`` divides by.
        level_weights: factor of each level under ``level_positives`` and ``level_sampled``, as many as levels or more;
            ``None``: 1 each.

    Raises:
        ValueError: a normalizer by levels where the slots have none.
    """
    sample = counts.sample
    match normalizer:
        case Normalizer.SAMPLED:
            return _over(values.sum(), sample.used.sum(), 1)
        case Normalizer.POSITIVES:
            return _over(values.sum(), counts.positive.sum(), 1)
        case Normalizer.IMAGE_POSITIVES:
            per_image = values.sum(-1) / counts.positive.sum(-1).clamp(min=1)
            return per_image.mean()  # every process has equally many images
        case Normalizer.AVG_FACTOR:
            return _over(values.sum(), counts.positive.sum(-1).clamp(min=1).sum(), 1)
        case Normalizer.POSITIVES_OR_IMAGES:
            return _over(values.sum(), counts.positive.sum(), values.shape[0] * process_count())
        case Normalizer.QUALITY:
            return _over(values.sum(), counts.quality.sum(), quality_floor)
        case Normalizer.WEIGHTS:
            # Weights may sum to less than one slot: a bound of 1 would then shrink the loss.
            return _over(values.sum(), sample.weight.sum(), 1e-6)
        case Normalizer.LEVEL_POSITIVES:
            return _over_levels(values, counts, counts.positive * sample.weight, level_weights)
        case Normalizer.LEVEL_SAMPLED:
            return _over_levels(values, counts, sample.used * 1.0, level_weights)
        case Normalizer.ONE:
            return values.sum() * process_count()


def mean_over_processes(mean: Tensor, count: Tensor) -> Tensor:
    """A mean over the ``count`` examples of this process, as its part of the mean over those of all processes."""
    if process_count() == 1:
        return mean
    return _over(mean * count, count, 1)


def _over(total: Tensor, count: Tensor, least: float) -> Tensor:
    return total * process_count() / reduce_sum(count.detach()).clamp(min=least)


def _over_levels(values: Tensor, counts: Counts, shares: Tensor, weights: tuple[float, ...] | None) -> Tensor:
    """The sum of each level's values over the sum of its ``shares (B, S)``, summed over the levels."""
    if counts.level is None:
        raise ValueError("a normalizer by levels needs candidates with levels, which proposals do not have")
    if weights is not None and len(weights) < counts.num_levels:
        raise ValueError(f"level_weights has {len(weights)} factors for {counts.num_levels} levels")
    parts = []
    for level in range(counts.num_levels):
        here = counts.level == level
        part = _over(torch.where(here, values, 0).sum(), torch.where(here, shares, 0).sum(), 1)
        parts.append(part if weights is None else part * weights[level])
    return torch.stack(parts).sum()
