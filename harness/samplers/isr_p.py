"""Importance-based sample reweighting of the positives (ISR-P): PISA's weights by IoU."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, Sampler, SamplingResult
from harness.core.topk import rank_within
from harness.samplers.building_blocks.wrapping import WrappingSampler


class ISRPSampler(WrappingSampler):
    """Classification weights of the positives by their IoU hierarchical local rank (Cao et al. 2020, "Prime sample
    attention in object detection", sections 3 and 4.1; mmdetection's form).

    Another sampler chooses. Of the positives of an object, the one whose predicted box fits best has local rank 0, the
    next one 1, and so on. The positives of a class in the batch are then ordered by their local rank and, within a
    rank, by their IoU. The one in place ``r`` gets the importance ``((1 - bias) w (m - r) / m + bias) ** k``, ``w``
    being its weight and ``m`` the number of positives of the most frequent class of the batch; all importances are
    scaled so that the sum of the positives' classification losses stays what it was. Regression keeps its weights.

    mmdetection numbers objects across images with a shift that lets two objects of different images share a number, and
    then ranks their positives as those of one object; here an object is one image's.

    The third part of PISA is a loss, :class:`~harness.losses.carl.CARLTerm`; ISR-N is ``score_hlr``. With several
    processes each ranks the positives of its own images.

    Args:
        of: the sampler that chooses.
        k: exponent of the importance, >= 0.
        bias: least importance before the exponent, in [0, 1].

    Raises:
        ValueError: a value is out of its range, or ``of`` is not a sampler.
    """

    def __init__(self, of: Sampler, k: float = 2.0, bias: float = 0.0) -> None:
        super().__init__(of, frozenset({Need.REWEIGHTING}))
        self.k = limits.at_least("k", k, 0)
        self.bias = limits.between("bias", bias, 0, 1)

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples as the other sampler does; ``noise`` and ``losses`` where that one needs them."""
        return self.of(truth, candidates, assignment, noise=noise, losses=losses)

    def class_weights(
        self, sample: SamplingResult, gt_index: Tensor, labels: Tensor, iou: Tensor, losses: Tensor
    ) -> Tensor:
        """``(*, S)`` factors of the classification losses: 1 where not positive.

        Args:
            sample: the slots, of all images of the batch.
            gt_index: ``(*, S)`` objects, numbered within their image.
            labels: ``(*, S)`` classes of the objects.
            iou: ``(*, S)`` IoU of the predicted box with its object.
            losses: ``(*, S)`` classification losses, multiplied by the slots' weights.
        """
        factor = torch.ones_like(losses)
        if Need.REWEIGHTING in self.of.needs:
            factor = super().class_weights(sample, gt_index, labels, iou, losses)
        if losses.numel() == 0:
            return factor
        positive = (sample.positive & sample.used).flatten()
        importance = self._importance(sample, gt_index, labels, iou)
        loss = (losses * factor).flatten().nan_to_num(nan=0.0).clamp(min=0) * positive
        weight = torch.where(sample.used, sample.weight, 1).flatten()
        relative = importance / weight  # the losses are multiplied by the weight already
        ratio = loss.sum() / (loss * relative).sum()
        ratio = torch.where(ratio.isfinite(), ratio, 1.0)  # without positives, or where a loss is infinite
        return factor * torch.where(positive, relative * ratio, 1.0).view_as(losses)

    def _importance(self, sample: SamplingResult, gt_index: Tensor, labels: Tensor, iou: Tensor) -> Tensor:
        """``(M,)`` importances of the M slots of the batch, meaningful where positive."""
        slots = sample.index.shape[-1]
        positive = (sample.positive & sample.used).flatten()
        fit = iou.flatten().float().nan_to_num(nan=0.0)
        image = torch.arange(positive.shape[0], device=positive.device) // slots
        labels = labels.flatten()
        # An object's number is unique in the batch. All other slots are a group, and a class, of their own.
        objects = torch.where(positive, image * (gt_index.max().clamp(min=0) + 1) + gt_index.flatten() + 1, 0)
        classes = torch.where(positive, labels + 1, 0)
        local_rank = rank_within(-fit, objects)
        class_size = rank_within(-fit, classes) + 1
        most = torch.where(positive, class_size, 1).amax()
        place = rank_within(-(fit + (most - local_rank)), classes)
        share = sample.weight.flatten() * ((most - place).float() / most)
        return (self.bias + (1 - self.bias) * share).clamp(min=0).pow(self.k)
