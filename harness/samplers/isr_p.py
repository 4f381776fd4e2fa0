"""Importance-based sample reweighting of the positives (ISR-P): PISA's weights by IoU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core import limits
from harness.core.processes import gather_rows, own_rows, process_rank
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

    The third part of PISA is a loss, :class:`~harness.losses.carl.CARLTerm`; ISR-N is ``score_hlr``. The batch is that
    of all processes.

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
        batch = _Slots.of(sample, gt_index, labels, iou, losses * factor)
        if len(batch.positive) == 0:
            return factor
        relative = self._importance(batch) / torch.where(batch.positive, batch.weight, 1)  # losses are weighted already
        loss = batch.loss.nan_to_num(nan=0.0).clamp(min=0) * batch.positive
        ratio = loss.sum() / (loss * relative).sum()
        ratio = torch.where(ratio.isfinite(), ratio, 1.0)  # without positives, or where a loss is infinite
        scaled = torch.where(batch.positive, relative * ratio, 1.0).to(losses.dtype)
        return factor * own_rows(scaled, losses.numel()).view_as(losses)

    def _importance(self, batch: _Slots) -> Tensor:
        """``(M,)`` importances of the M slots of the batch, meaningful where positive."""
        # An object's number is unique in the batch. All other slots are a group, and a class, of their own.
        highest = batch.gt_index.max().clamp(min=0) + 1
        objects = torch.where(batch.positive, batch.image * highest + batch.gt_index + 1, 0)
        classes = torch.where(batch.positive, batch.label + 1, 0)
        local_rank = rank_within(-batch.fit, objects)
        class_size = rank_within(-batch.fit, classes) + 1
        most = torch.where(batch.positive, class_size, 1).amax()
        place = rank_within(-(batch.fit + (most - local_rank)), classes)
        share = batch.weight * ((most - place).float() / most)
        return (self.bias + (1 - self.bias) * share).clamp(min=0).pow(self.k)


@dataclass(frozen=True)
class _Slots:
    """The slots of the whole batch, over all processes, ``(M,)`` each."""

    positive: Tensor  # bool
    image: Tensor  # int64, of all processes
    gt_index: Tensor  # int64, numbered within the image
    label: Tensor  # int64
    fit: Tensor  # float32, IoU of the predicted box with its object
    weight: Tensor
    loss: Tensor

    @classmethod
    def of(cls, sample: SamplingResult, gt_index: Tensor, labels: Tensor, iou: Tensor, losses: Tensor) -> _Slots:
        """Those of this process, ``(*, S)`` each, with those of the others."""
        positive = sample.positive & sample.used
        images, slots = positive.shape[:-1].numel(), positive.shape[-1]
        image = torch.arange(images, device=positive.device) + process_rank() * images
        whole = [image.unsqueeze(-1).expand(images, slots), gt_index, labels]
        numbers = torch.stack([part.reshape(-1) for part in (positive.long(), *whole)], -1)
        values = torch.stack([part.reshape(-1).to(losses.dtype) for part in (sample.weight, losses)], -1)
        numbers, values = gather_rows(numbers, 0), gather_rows(values, 0)
        fit = gather_rows(iou.flatten().float().nan_to_num(nan=0.0), 0)
        own, image, gt_index, label = numbers.unbind(-1)
        weight, loss = values.unbind(-1)
        return cls(own.bool(), image, gt_index, label, fit, weight, loss)
