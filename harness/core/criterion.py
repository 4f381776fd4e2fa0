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

from harness.core import limits
from harness.core.heads import HeadSpec, Outputs
from harness.core.matches import Matches, every_match
from harness.core.noise import image_noise
from harness.core.structures import (
    Assigner,
    Assignment,
    CandidateLosses,
    Candidates,
    ClassCounts,
    GroundTruth,
    LossAwareAssigner,
    Need,
    ReweightingSampler,
    Sampler,
    SamplingResult,
    full_precision,
)
from harness.losses.balance import Balance
from harness.losses.pair import Loss
from harness.losses.reduction import BoxWeight, Counts
from harness.losses.terms import Branch, Slots, Term


@dataclass(frozen=True)
class WarmUp:
    """Other pieces for the first part of the training (TOOD assigns by ATSS until epoch 4 of 12).

    Attributes:
        share: of the training, in (0, 1], at which the stage's own pieces take over.
        assigner: until then; ``None`` is the stage's own.
        loss: until then; ``None`` is the stage's own.
    """

    share: float
    assigner: Assigner | None = None
    loss: Loss | None = None

    def __post_init__(self) -> None:
        limits.above("share", self.share, 0, 1)


@dataclass(frozen=True)
class StageComponents:
    """The pieces of one stage; ``None`` leaves the detector's own."""

    assigner: Assigner | None = None
    sampler: Sampler | None = None
    loss: Loss | None = None
    warmup: WarmUp | None = None


@dataclass(frozen=True)
class Targets:
    """What every slot of a sample should learn."""

    labels: Tensor  # (B, S) int64, 0..K-1, meaningful where positive
    boxes: Tensor  # (B, S, 4) the object, px; a unit box where not positive
    candidates: Tensor  # (B, S, 4) the candidate's box, px; a unit box where not positive
    references: Tensor  # (B, S, 4 or 5) the same as the head's coder reads it: with the stride where it needs that


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
    matches: Matches | None = None  # where a candidate trains for every object that it matches


class Observer(Protocol):
    """Sees every selection of every stage; must not change it and must not wait for the device."""

    def __call__(self, stage: str, selection: Selection) -> None: ...


class LossObserver(Protocol):
    """Sees the losses of what a stage trains on, detached; must not change them and must not wait for the device."""

    def __call__(self, stage: str, selection: Selection, losses: CandidateLosses) -> None: ...


class Criterion(nn.Module):
    """assigner x sampler x loss for one stage.

    Args:
        head: the facts of the stage's head.
        assigner: who is positive for which object.
        sampler: which of them train, with what weight.
        loss: the losses and their normalizers.
        warmup: other pieces for the first part of the training.
        baseline: the loss that ``loss.balance=equal`` brings the two terms to the size of.
        generator: the stream of the sampler's noise; ``None`` uses torch's global one.
        shadows: other samplers, by name, whose choice on the same candidates is recorded and never trains. Each draws
            from a stream of its own, so that training is bit-identical with and without them.
        shadow_generator: the stream of the shadows.
        observers: called with every selection.
        loss_observers: called with every selection and the ``(B, S)`` losses of its slots, once they are known.

    Attributes:
        progress: share of the training that is done, in [0, 1]: what is scheduled over the training looks at it. The
            training loop sets it before every step; 1 where nobody does, so that every schedule is at its end.
    """

    def __init__(
        self,
        head: HeadSpec,
        assigner: Assigner,
        sampler: Sampler,
        loss: Loss,
        *,
        warmup: WarmUp | None = None,
        baseline: Loss | None = None,
        generator: torch.Generator | None = None,
        shadows: Mapping[str, Sampler] | None = None,
        shadow_generator: torch.Generator | None = None,
        observers: Sequence[Observer] = (),
        loss_observers: Sequence[LossObserver] = (),
    ) -> None:
        super().__init__()
        self.head = head
        self.assigner = assigner
        self.sampler = sampler
        self.loss = loss
        self.warmup = warmup
        self.warmup_loss = None if warmup is None else warmup.loss  # registered: a loss may keep a state
        self.baseline = baseline
        self.balance = Balance() if baseline is not None else None
        losses = [own for own in (loss, self.warmup_loss, baseline) if own is not None]
        for own in losses:
            own.classification.prepare(head.columns)
        self._sized = any(Need.IMAGE_SIZE in own.box_needs for own in losses)
        self.generator = generator
        self.shadows = dict(shadows or {})
        self.shadow_generator = shadow_generator
        self.observers = list(observers)
        self.loss_observers = list(loss_observers)
        self.progress = 1.0

    @property
    def needs(self) -> frozenset[Need]:
        """The union of what the assigner, the sampler and the shadows need."""
        return self._assigner.needs.union(self.sampler.needs, *(s.needs for s in self.shadows.values()))

    @property
    def sampler_ranks(self) -> bool:
        """Whether the sampler, or a shadow, ranks candidates by their losses or predictions."""
        ranking = {Need.LOSSES, Need.PREDICTIONS}
        return any(ranking & sampler.needs for sampler in (self.sampler, *self.shadows.values()))

    @property
    def _warming_up(self) -> WarmUp | None:
        return self.warmup if self.warmup is not None and self.progress < self.warmup.share else None

    @property
    def _assigner(self) -> Assigner:
        """The assigner of this part of the training."""
        now = self._warming_up
        return self.assigner if now is None or now.assigner is None else now.assigner

    @property
    def _loss(self) -> Loss:
        """The loss of this part of the training."""
        now = self._warming_up
        return self.loss if now is None or now.loss is None else now.loss

    def set_class_counts(self, counts: ClassCounts) -> None:
        """Tells the class losses how often each of the ``K`` classes occurs in the training set."""
        for loss in (self.loss, self.warmup_loss, self.baseline):
            if loss is not None:
                last = loss.classification.background_last
                loss.classification.set_class_counts(self.head.column_counts(counts, background_last=last))

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
            references = self.head.references(candidates)
            candidates = candidates.predicted(self.head.predictions(outputs, references, self._loss.classification))

        assigner = self._assigner
        assignment = assigner(truth, candidates)
        losses = None
        if outputs is not None and Need.LOSSES in assigner.needs:
            proposed_losses = self.candidate_losses(outputs, truth, candidates, assignment)
            assignment = cast(LossAwareAssigner, assigner).refine(truth, candidates, assignment, proposed_losses)
        if outputs is not None and any(Need.LOSSES in s.needs for s in (self.sampler, *self.shadows.values())):
            losses = self.candidate_losses(outputs, truth, candidates, assignment)

        sample = self._sample(self.sampler, self.generator, truth, candidates, assignment, losses)
        shadows = {
            name: self._sample(sampler, self.shadow_generator, truth, candidates, assignment, losses)
            for name, sampler in self.shadows.items()
        }
        targets = self._targets(truth, candidates, sample.take(assignment.gt_index), sample)
        matches = every_match(assigner, truth, candidates) if self._loss.every_match else None
        selection = Selection(truth, candidates, assignment, sample, targets, losses, shadows, matches)
        for observer in self.observers:
            observer(self.head.stage, selection)
        return selection

    def forward(self, outputs: Outputs, selection: Selection) -> dict[str, Tensor]:
        """The losses of the stage, reduced.

        Args:
            outputs: the head's outputs at the slots of ``selection.sample``, ``(B, S, ...)``, with gradient.
            selection: what :meth:`select` returned.

        Returns:
            ``classification`` and ``regression``; where the head has a branch its loss, by the name of the branch; and
            the further terms of the loss. Scalars.
        """
        if outputs.logits.shape[-1] != self.head.columns:
            raise ValueError(
                f"stage {self.head.stage}: the head gives {outputs.logits.shape[-1]} columns, but had "
                f"{self.head.columns} when it was equipped; after replacing a predictor, equip the detector again"
            )
        loss = self._loss
        slots = self._slots(outputs, selection.targets, selection.assignment, selection.sample, selection.candidates)
        classification, regression = self._values(loss, slots)
        classification = classification * self._class_weights(selection, slots, classification)
        if self.loss_observers:
            known = self._weighted(loss, slots, classification, regression)
            for observer in self.loss_observers:
                observer(self.head.stage, selection, known)
        if selection.matches is None:
            losses = self._pair(loss, slots, classification, regression)
        else:
            pairs = self._matched(outputs, selection, selection.matches)
            losses = self._pair(loss, pairs, *self._values(loss, pairs))
        if self.baseline is not None and self.balance is not None:
            with torch.no_grad():
                wanted = self._pair(self.baseline, slots, *self._values(self.baseline, slots))
            losses = self.balance(losses, wanted)
        return {**losses, **self._terms(loss, slots)}

    def _matched(self, outputs: Outputs, selection: Selection, matches: Matches) -> Slots:
        """A slot for each match of a candidate and an object.

        Raises:
            ValueError: the sampler left candidates out.
        """
        if not selection.sample.in_order:
            raise ValueError(f"stage {self.head.stage}: loss.every_match needs every candidate; choose sampler=all")
        sample, truth, candidates = matches.sample, selection.truth, selection.candidates
        targets = self._targets(truth, candidates, matches.gt_index, sample)
        return self._slots(outputs.take(sample), targets, selection.assignment, sample, candidates)

    @torch.no_grad()
    def _class_weights(self, selection: Selection, slots: Slots, classification: Tensor) -> Tensor | float:
        """``(B, S)`` factors of the classification losses where the sampler weighs them, else 1."""
        if Need.REWEIGHTING not in self.sampler.needs:
            return 1.0
        gt_index = selection.sample.take(selection.assignment.gt_index)
        return cast(ReweightingSampler, self.sampler).class_weights(
            selection.sample, gt_index, selection.targets.labels, slots.iou, classification.detach()
        )

    def _terms(self, loss: Loss, slots: Slots) -> dict[str, Tensor]:
        """The scalars of the head's branch and of the loss's further terms that count by now."""
        if self.head.branch is Branch.NONE and not len(loss.terms):
            return {}
        further: dict[str, Term] = dict(loss.terms.items())  # type: ignore[arg-type]
        if self.head.branch is not Branch.NONE:
            further = {self.head.branch.value: loss.branch, **further}
        slots = self._weigh(loss, slots)
        losses = {}
        for name, term in further.items():
            if self.progress >= term.start:
                view = term.view(slots)
                losses[name] = loss.reduce_term(term, term.values(view), view.counts)
        return losses

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
        loss = self._loss
        training = loss.training
        loss.eval()  # ranking must not advance the state of a loss that keeps one
        try:
            targets = self._targets(truth, candidates, assignment.gt_index, everything)
            slots = self._slots(outputs, targets, assignment, everything, candidates)
            return self._weighted(loss, slots, *self._values(loss, slots))
        finally:
            loss.train(training)

    @torch.no_grad()
    def _weighted(self, loss: Loss, slots: Slots, classification: Tensor, regression: Tensor) -> CandidateLosses:
        """What the slots cost, with the loss's weights, detached. The quality of a box weighs it in training only."""
        classification, regression = classification.detach(), regression.detach()
        if self.head.classify_positives_only and slots.branch is not None:
            # Here the background is learnt by the objectness: without it every negative would look equally easy.
            logits = full_precision(slots.branch)
            sample = slots.counts.sample
            objectness = binary_cross_entropy_with_logits(logits, sample.positive.to(logits.dtype), reduction="none")
            classification = classification + objectness * sample.weight
        weights = loss.weights(self.head.stage)
        return CandidateLosses(classification * weights[0], regression * weights[1])

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
            noise = image_noise(candidates.valid.shape, candidates.valid.device, generator)
        return sampler(truth, candidates, assignment, noise=noise, losses=losses)

    def _targets(self, truth: GroundTruth, candidates: Candidates, gt_index: Tensor, sample: SamplingResult) -> Targets:
        """What the slots of ``sample``, whose objects are ``gt_index (B, S)``, should learn."""
        references = sample.take(self.head.references(candidates))
        boxes = references[..., :4]
        # A slot without an object learns no box. It still passes through the coder, whose result (and gradient) must be
        # finite there: padded candidates have no area, so such slots take a unit box for both.
        unit = torch.cat((torch.zeros_like(references[..., :2]), torch.ones_like(references[..., 2:])), -1)
        positive = sample.positive.unsqueeze(-1)
        if truth.labels.shape[-1] == 0:
            return Targets(torch.zeros_like(sample.index), unit[..., :4], unit[..., :4], unit)
        gt_index = gt_index.clamp(min=0)
        matched = truth.boxes.gather(-2, gt_index.unsqueeze(-1).expand(*gt_index.shape, 4)).to(boxes.dtype)
        references = torch.where(positive, references, unit)
        return Targets(
            labels=truth.labels.gather(-1, gt_index),
            boxes=torch.where(positive, matched, unit[..., :4]),
            candidates=references[..., :4],
            references=references,
        )

    def _slots(
        self,
        outputs: Outputs,
        targets: Targets,
        assignment: Assignment,
        sample: SamplingResult,
        candidates: Candidates,
    ) -> Slots:
        """The predictions and the targets of the slots, side by side."""
        head = self.head
        level = None if candidates.level is None else sample.take(candidates.level.expand(candidates.valid.shape))
        deltas = full_precision(outputs.deltas)
        return Slots(
            counts=Counts(sample, None, level, candidates.num_levels),
            coder=head.coder,
            activation=head.activation,
            branch_kind=head.branch,
            logits=full_precision(outputs.logits),
            column=head.target_columns(targets.labels, sample.positive),
            deltas=head.deltas_of(deltas, targets.labels),
            references=targets.references,
            target_boxes=targets.boxes,
            assigned_quality=None if assignment.quality is None else sample.take(assignment.quality),
            distribution=deltas if head.regression_bins else None,
            branch=outputs.branch,
            refined_deltas=None if outputs.refined is None else full_precision(outputs.refined),
            image_size=self._image_size(candidates, targets.boxes) if self._sized else None,
        )

    def _image_size(self, candidates: Candidates, boxes: Tensor) -> Tensor:
        """``(B, S, 2)`` height and width of the image of each of the slots' ``boxes (B, S, 4)``."""
        if candidates.image_sizes is None:
            raise ValueError(f"stage {self.head.stage}: a loss needs the size of the images; the candidates lack it")
        # Filled value by value: a copy of a list from the host would make a GPU wait.
        sizes = torch.stack([torch.stack([boxes.new_full((), side) for side in s]) for s in candidates.image_sizes])
        return sizes.unsqueeze(1).expand(*boxes.shape[:-1], 2)

    def _values(self, loss: Loss, slots: Slots) -> tuple[Tensor, Tensor]:
        """``(B, S)`` classification and regression losses, multiplied by the slots' weights."""
        regression = slots.box_loss(loss.regression, slots.positive_weight)
        quality = box_loss = None
        if Need.QUALITY in loss.classification.needs:
            quality = slots.assigned_quality
            if quality is None:
                quality = slots.best.iou * slots.counts.sample.positive
        if Need.BOX_LOSSES in loss.classification.needs:
            positive = slots.positive_weight > 0
            box_loss = regression.detach() / slots.positive_weight.where(positive, 1.0)
        logits, column = self._as_read(loss, slots)
        weight = self._class_weight(slots)
        return loss.classification(logits, column, weight=weight, quality=quality, box_loss=box_loss), regression

    def _class_weight(self, slots: Slots) -> Tensor:
        """``(B, S)`` weight of the slots in the class loss."""
        return slots.positive_weight if self.head.classify_positives_only else slots.counts.sample.weight

    def _as_read(self, loss: Loss, slots: Slots) -> tuple[Tensor, Tensor]:
        """Logits and columns of the slots in the order of columns of the class loss."""
        head, logits, column = self.head, slots.logits, slots.column
        if loss.classification.background_last and head.background is not None and head.background != head.columns - 1:
            if head.background != 0:
                raise ValueError(f"stage {head.stage}: background column {head.background} is neither first nor last")
            logits = logits.roll(-1, -1)
            column = (column - 1) % head.columns
        return logits, column

    def _pair(self, loss: Loss, slots: Slots, classification: Tensor, regression: Tensor) -> dict[str, Tensor]:
        """The two scalars of the pair, out of their ``(B, S)`` values."""
        slots = self._weigh(loss, slots)
        box_weight = slots.counts.box_weight
        if box_weight is not None:
            regression = regression * box_weight
        factor = loss.classification.box_factor(*self._as_read(loss, slots), weight=self._class_weight(slots))
        if factor is not None:
            regression = regression * factor
        only = self.head.classify_positives_only
        total = loss.reduce_classification(classification, slots.counts, only)
        boxes = loss.reduce_boxes(regression, slots.counts)
        if loss.classification.scales_boxes:
            boxes = boxes * loss.box_scale(total, boxes)
        published = loss.published_factors(self.head.stage)
        return {"classification": total * published[0], "regression": boxes * published[1]}

    def _weigh(self, loss: Loss, slots: Slots) -> Slots:
        """The slots with the box weights of ``loss``."""
        if loss.box_weight is BoxWeight.SCORE:
            slots = replace(slots, score=self.head.probabilities(slots.logits, loss.classification).detach().amax(-1))
        return slots.weighted(loss.box_weight)
