"""The one flow: candidates -> assignment -> sample -> named losses, for every stage of every detector.

There is no branch per detector or per method here: a head states its facts (:class:`~harness.core.heads.HeadSpec`), a
component declares what it needs (:class:`~harness.core.structures.Need`), and the flow provides exactly that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.core.boxes import aligned_iou
from harness.core.heads import HeadSpec, Outputs
from harness.core.structures import (
    Assigner,
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    LossAwareAssigner,
    Need,
    Sampler,
    SamplingResult,
    full_precision,
)
from harness.losses.interface import Normalizer, Space
from harness.losses.pair import Loss


@dataclass(frozen=True)
class StageComponents:
    """The pieces of one stage; ``None`` leaves the head's natural one."""

    assigner: Assigner | None = None
    sampler: Sampler | None = None
    loss: Loss | None = None


@dataclass(frozen=True)
class Targets:
    """What every slot of a sample should learn."""

    labels: Tensor  # (B, S) int64, 0..K-1, meaningful where positive
    boxes: Tensor  # (B, S, 4) the object, px; a unit box where not positive
    candidates: Tensor  # (B, S, 4) the candidate's box, px; a unit box where not positive
    image_size: Tensor | None = None  # (B, S, 2) height and width of the image, px, where the loss needs it


@dataclass(frozen=True)
class Selection:
    """What a stage decided to train on, and everything an observer may want to know of it. Detached."""

    truth: GroundTruth
    candidates: Candidates
    assignment: Assignment
    sample: SamplingResult
    targets: Targets
    losses: CandidateLosses | None = None  # where some piece needed them
    shadows: Mapping[str, SamplingResult] = field(default_factory=dict)


class Observer(Protocol):
    """Sees every selection of every stage; must not change it and must not wait for the device."""

    def __call__(self, stage: str, selection: Selection) -> None: ...


class LossObserver(Protocol):
    """Sees the losses of what a stage trains on, detached; must not change them and must not wait for the device."""

    def __call__(self, stage: str, selection: Selection, losses: CandidateLosses) -> None: ...


def uniform_noise(shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1) from the sampling stream; ``generator`` may live on another device than the result."""
    if generator is None:
        return torch.rand(tuple(shape), device=device)  # without the argument, so that torch.compile can trace it
    return torch.rand(tuple(shape), generator=generator, device=generator.device).to(device, non_blocking=True)


class Criterion(nn.Module):
    """assigner x sampler x loss for one stage.

    Args:
        head: the facts of the stage's head.
        assigner: who is positive for which object.
        sampler: which of them train, with what weight.
        loss: the pair of losses and its normaliser.
        generator: the stream of the sampler's noise; ``None`` uses torch's global one.
        shadows: other samplers, by name, whose choice on the same candidates is recorded and never trains. Each draws
            from a stream of its own, so that training is bit-identical with and without them.
        shadow_generator: the stream of the shadows.
        observers: called with every selection.
        loss_observers: called with every selection and the ``(B, S)`` losses of its slots, once they are known.
    """

    def __init__(
        self,
        head: HeadSpec,
        assigner: Assigner,
        sampler: Sampler,
        loss: Loss,
        *,
        generator: torch.Generator | None = None,
        shadows: Mapping[str, Sampler] | None = None,
        shadow_generator: torch.Generator | None = None,
        observers: Sequence[Observer] = (),
        loss_observers: Sequence[LossObserver] = (),
    ) -> None:
        super().__init__()
        loss.classification.prepare(head.columns)
        self.head = head
        self.assigner = assigner
        self.sampler = sampler
        self.loss = loss
        self.generator = generator
        self.shadows = dict(shadows or {})
        self.shadow_generator = shadow_generator
        self.observers = list(observers)
        self.loss_observers = list(loss_observers)

    @property
    def needs(self) -> frozenset[Need]:
        """The union of what the assigner, the sampler and the shadows need."""
        return self.assigner.needs.union(self.sampler.needs, *(s.needs for s in self.shadows.values()))

    @torch.no_grad()
    def select(
        self, truth: GroundTruth, candidates: Candidates, predict: Callable[[], Outputs] | None = None
    ) -> Selection:
        """Assigns and samples.

        Args:
            truth: ``(B, G)`` padded objects.
            candidates: ``(B, N)`` padded candidates.
            predict: returns the head's outputs for all candidates; called at most once, only if a piece needs
                predictions or losses. It must leave every buffer and random stream as it found them.
        """
        if self.head.class_agnostic_truth:
            truth = replace(truth, labels=torch.zeros_like(truth.labels))
        outputs = None
        if self.needs & {Need.PREDICTIONS, Need.LOSSES}:
            if predict is None:
                raise ValueError(
                    f"stage {self.head.stage}: a piece needs {sorted(self.needs)} but nothing predicts them"
                )
            outputs = predict()
            predicted = self.head.predictions(outputs, candidates.boxes, self.loss.classification)
            candidates = candidates.predicted(predicted)

        assignment = self.assigner(truth, candidates)
        losses = None
        if outputs is not None and Need.LOSSES in self.assigner.needs:
            proposed_losses = self.candidate_losses(outputs, truth, candidates, assignment)
            assigner = cast(LossAwareAssigner, self.assigner)
            assignment = assigner.refine(truth, candidates, assignment, proposed_losses)
        if outputs is not None and any(Need.LOSSES in s.needs for s in (self.sampler, *self.shadows.values())):
            losses = self.candidate_losses(outputs, truth, candidates, assignment)

        sample = self._sample(self.sampler, self.generator, truth, candidates, assignment, losses)
        shadows = {
            name: self._sample(sampler, self.shadow_generator, truth, candidates, assignment, losses)
            for name, sampler in self.shadows.items()
        }
        targets = self._targets(truth, candidates, assignment, sample)
        selection = Selection(truth, candidates, assignment, sample, targets, losses, shadows)
        for observer in self.observers:
            observer(self.head.stage, selection)
        return selection

    def forward(self, outputs: Outputs, selection: Selection) -> dict[str, Tensor]:
        """The two losses of the stage, reduced.

        Args:
            outputs: the head's outputs at the slots of ``selection.sample``, ``(B, S, ...)``, with gradient.
            selection: what :meth:`select` returned.

        Returns:
            ``{"classification": scalar, "regression": scalar}``.
        """
        if outputs.logits.shape[-1] != self.head.columns:
            raise ValueError(
                f"stage {self.head.stage}: the head gives {outputs.logits.shape[-1]} columns, but had "
                f"{self.head.columns} when it was equipped; after replacing a predictor, equip the detector again"
            )
        classification, regression = self._slot_losses(
            outputs, selection.targets, selection.assignment, selection.sample
        )
        if self.loss_observers:
            known = self._weighted(outputs, selection.sample, classification, regression)
            for observer in self.loss_observers:
                observer(self.head.stage, selection, known)
        own = self.loss.classification.normalizer
        if own is Normalizer.SAMPLED and self.head.classify_positives_only:
            own = Normalizer.POSITIVES  # the other slots are none of its samples
        classification = self.loss.reduce(classification, selection.sample, own)
        regression = self.loss.reduce(regression, selection.sample, self.loss.regression.normalizer)
        return {
            "classification": classification * self.loss.classification_weight,
            "regression": regression * self.loss.regression_weight,
        }

    def candidate_losses(
        self, outputs: Outputs, truth: GroundTruth, candidates: Candidates, assignment: Assignment
    ) -> CandidateLosses:
        """The loss of every candidate under ``assignment``, weighted as in training; 0 where ignored or padded."""
        everything = SamplingResult(
            index=torch.arange(candidates.valid.shape[-1], device=candidates.valid.device).expand(
                candidates.valid.shape
            ),
            positive=assignment.positive & candidates.valid,
            weight=((assignment.positive | assignment.negative) & candidates.valid).to(outputs.logits.dtype),
            in_order=True,
        )
        training = self.loss.training
        self.loss.eval()  # ranking must not advance the state of a loss that keeps one
        try:
            targets = self._targets(truth, candidates, assignment, everything)
            classification, regression = self._slot_losses(outputs, targets, assignment, everything)
        finally:
            self.loss.train(training)
        return self._weighted(outputs, everything, classification, regression)

    @torch.no_grad()
    def _weighted(
        self, outputs: Outputs, sample: SamplingResult, classification: Tensor, regression: Tensor
    ) -> CandidateLosses:
        """What the slots cost, with the loss's weights, detached."""
        classification, regression = classification.detach(), regression.detach()
        if self.head.classify_positives_only and outputs.objectness is not None:
            # Here the background is learnt by the objectness: without it every negative would look equally easy.
            logits = full_precision(outputs.objectness)
            objectness = binary_cross_entropy_with_logits(logits, sample.positive.to(logits.dtype), reduction="none")
            classification = classification + objectness * sample.weight
        return CandidateLosses(
            classification * self.loss.classification_weight, regression * self.loss.regression_weight
        )

    def _sample(
        self,
        sampler: Sampler,
        generator: torch.Generator | None,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        losses: CandidateLosses | None,
    ) -> SamplingResult:
        noise = None
        if Need.NOISE in sampler.needs:
            noise = uniform_noise(candidates.valid.shape, candidates.valid.device, generator)
        return sampler(truth, candidates, assignment, noise=noise, losses=losses)

    def _targets(
        self, truth: GroundTruth, candidates: Candidates, assignment: Assignment, sample: SamplingResult
    ) -> Targets:
        boxes = sample.take(candidates.boxes)
        # A slot without an object learns no box. It still passes through the coder, whose result (and gradient) must be
        # finite there: padded candidates have no area, so such slots take a unit box for both.
        unit = torch.cat((torch.zeros_like(boxes[..., :2]), torch.ones_like(boxes[..., 2:])), -1)
        positive = sample.positive.unsqueeze(-1)
        size = self._image_size(candidates, boxes) if Need.IMAGE_SIZE in self.loss.regression.needs else None
        if truth.labels.shape[-1] == 0:
            return Targets(torch.zeros_like(sample.index), unit, unit, size)
        gt_index = sample.take(assignment.gt_index).clamp(min=0)
        matched = truth.boxes.gather(-2, gt_index.unsqueeze(-1).expand(*gt_index.shape, 4)).to(boxes.dtype)
        return Targets(
            labels=truth.labels.gather(-1, gt_index),
            boxes=torch.where(positive, matched, unit),
            candidates=torch.where(positive, boxes, unit),
            image_size=size,
        )

    def _image_size(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """``(B, S, 2)`` height and width of the image of each of the slots' ``boxes (B, S, 4)``."""
        if candidates.image_sizes is None:
            name = type(self.loss.regression).__name__
            raise ValueError(f"stage {self.head.stage}: {name} needs the size of the images; the candidates lack it")
        # Filled value by value: a copy of a list from the host would make a GPU wait.
        sizes = torch.stack([torch.stack([boxes.new_full((), side) for side in s]) for s in candidates.image_sizes])
        return sizes.unsqueeze(1).expand(*boxes.shape[:-1], 2)

    def _slot_losses(
        self, outputs: Outputs, targets: Targets, assignment: Assignment, sample: SamplingResult
    ) -> tuple[Tensor, Tensor]:
        """``(B, S)`` weighted classification and regression losses of the slots."""
        head, loss = self.head, self.loss
        positive_weight = sample.weight * sample.positive
        logits = full_precision(outputs.logits)
        deltas = full_precision(head.deltas_of(outputs.deltas, targets.labels))

        quality = None
        if Need.QUALITY in loss.classification.needs:
            quality = self._quality(deltas, targets, assignment, sample)
        column = head.target_columns(targets.labels, sample.positive)
        if loss.classification.background_last and head.background is not None and head.background != head.columns - 1:
            if head.background != 0:
                raise ValueError(f"stage {head.stage}: background column {head.background} is neither first nor last")
            logits = logits.roll(-1, -1)
            column = (column - 1) % head.columns
        weight = positive_weight if head.classify_positives_only else sample.weight
        classification = loss.classification(logits, column, weight=weight, quality=quality)

        if loss.regression.space is Space.BOXES:
            prediction, target = head.coder.decode(deltas, targets.candidates), targets.boxes
        else:
            prediction, target = deltas, head.coder.encode(targets.boxes, targets.candidates)
        regression = loss.regression(prediction, target, weight=positive_weight, image_size=targets.image_size)
        return classification, regression

    def _quality(self, deltas: Tensor, targets: Targets, assignment: Assignment, sample: SamplingResult) -> Tensor:
        """``(B, S)`` soft targets: the assigner's own, or the IoU of the predicted box with its object."""
        if assignment.quality is not None:
            return sample.take(assignment.quality)
        decoded = self.head.coder.decode(deltas.detach(), targets.candidates)
        return aligned_iou(decoded, targets.boxes) * sample.positive
