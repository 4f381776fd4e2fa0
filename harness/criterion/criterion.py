"""The one flow: candidates -> assignment -> sample -> named losses, for every stage of every detector.

There is no branch per detector or per method here: a head states its facts
(:class:`~harness.criterion.heads.HeadSpec`), a component declares what it needs
(:class:`~harness.core.structures.Need`), and the flow provides exactly that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

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
)
from harness.criterion.heads import HeadSpec, Outputs
from harness.criterion.losses import baseline_pair, further_terms, ranking_losses, reduced_pair, slot_losses
from harness.criterion.stage import LossObserver, Observer, Selection, Targets, WarmUp
from harness.criterion.targets import all_candidates, slots_of, targets_of
from harness.losses.balance import Balance
from harness.losses.pair import Loss
from harness.losses.terms import Slots


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
        # The warm-up's loss is another one: its factors say nothing of the loss that follows.
        self.warmup_balance = Balance() if baseline is not None and self.warmup_loss is not None else None
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

    @property
    def _balance(self) -> Balance | None:
        """What brings the loss of this part of the training to the baseline's size."""
        now = self._warming_up
        return self.balance if now is None or now.loss is None else self.warmup_balance

    @property
    def balances(self) -> dict[str, Balance]:
        """Those that ``balance=equal`` scales by: of the stage, and of a warm-up with a loss of its own."""
        stage = self.head.stage
        named = {stage: self.balance, f"{stage}_warmup": self.warmup_balance}
        return {name: balance for name, balance in named.items() if balance is not None}

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
        targets = targets_of(self.head, truth, candidates, sample.take(assignment.gt_index), sample)
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
        head, loss = self.head, self._loss
        if outputs.logits.shape[-1] != head.columns:
            raise ValueError(
                f"stage {head.stage}: the head gives {outputs.logits.shape[-1]} columns, but had "
                f"{head.columns} when it was equipped; after replacing a predictor, equip the detector again"
            )
        slots = self._slots(outputs, selection.targets, selection.assignment, selection.sample, selection.candidates)
        if selection.matches is None:
            classification, regression = slot_losses(head, loss, slots)
            classification = classification * self._class_weights(selection, slots, classification)
            losses = reduced_pair(head, loss, slots, classification, regression)
            self._observe(selection, slots, classification, regression)
        else:
            pairs = self._matched(outputs, selection, selection.matches)
            losses = reduced_pair(head, loss, pairs, *slot_losses(head, loss, pairs))
            if self.loss_observers:
                self._observe(selection, slots, *self._losses_beside(slots))
        balance = self._balance
        if self.baseline is not None and balance is not None:
            wanted = baseline_pair(head, self.baseline, slots) if balance.compares else None
            losses = balance(losses, wanted)
        return {**losses, **further_terms(head, loss, slots, self.progress)}

    def candidate_losses(
        self, outputs: Outputs, truth: GroundTruth, candidates: Candidates, assignment: Assignment
    ) -> CandidateLosses:
        """The loss of every candidate under ``assignment``, weighted as in training; 0 where ignored or padded."""
        everything = all_candidates(assignment, candidates, outputs.logits.dtype)
        targets = targets_of(self.head, truth, candidates, assignment.gt_index, everything)
        slots = self._slots(outputs, targets, assignment, everything, candidates)
        return ranking_losses(self.head, self._loss, slots, *self._losses_beside(slots))

    def _losses_beside(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """``(B, S)`` losses of slots that do not train: they advance no state of a loss that keeps one."""
        loss = self._loss
        training = loss.training
        loss.eval()
        try:
            return slot_losses(self.head, loss, slots)
        finally:
            loss.train(training)

    def _observe(self, selection: Selection, slots: Slots, classification: Tensor, regression: Tensor) -> None:
        """Shows the ``(B, S)`` losses of the slots to those who want to see them."""
        if not self.loss_observers:
            return
        known = ranking_losses(self.head, self._loss, slots, classification, regression)
        for observer in self.loss_observers:
            observer(self.head.stage, selection, known)

    def _matched(self, outputs: Outputs, selection: Selection, matches: Matches) -> Slots:
        """A slot for each match of a candidate and an object.

        Raises:
            ValueError: the sampler left candidates out.
        """
        if not selection.sample.in_order:
            raise ValueError(f"stage {self.head.stage}: loss.every_match needs every candidate; choose sampler=all")
        sample, truth, candidates = matches.sample, selection.truth, selection.candidates
        targets = targets_of(self.head, truth, candidates, matches.gt_index, sample)
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

    def _slots(
        self,
        outputs: Outputs,
        targets: Targets,
        assignment: Assignment,
        sample: SamplingResult,
        candidates: Candidates,
    ) -> Slots:
        return slots_of(self.head, outputs, targets, assignment, sample, candidates, sized=self._sized)
