"""The losses of a stage's slots: of every slot, and reduced to the named scalars of the stage."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.core.precision import full_precision
from harness.core.structures import Activation, CandidateLosses, Need
from harness.criterion.heads import HeadSpec
from harness.losses.pair import Loss
from harness.losses.reduction import BoxWeight
from harness.losses.terms import Branch, Slots, Term


def slot_losses(head: HeadSpec, loss: Loss, slots: Slots) -> tuple[Tensor, Tensor]:
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
    logits, column = _as_read(head, loss, slots)
    weight = _class_weight(head, slots)
    return loss.classification(logits, column, weight=weight, quality=quality, box_loss=box_loss), regression


@torch.no_grad()
def ranking_losses(
    head: HeadSpec, loss: Loss, slots: Slots, classification: Tensor, regression: Tensor
) -> CandidateLosses:
    """What the slots cost, with the loss's weights, detached: by these a sampler ranks.

    The quality of a box weighs its loss in training only.
    """
    classification, regression = classification.detach(), regression.detach()
    if head.classify_positives_only and slots.branch is not None:
        # Here the background is learnt by the objectness: without it every negative would look equally easy.
        logits = full_precision(slots.branch)
        sample = slots.counts.sample
        objectness = binary_cross_entropy_with_logits(logits, sample.positive.to(logits.dtype), reduction="none")
        classification = classification + objectness * sample.weight
    weights = loss.weights(head.stage)
    return CandidateLosses(classification * weights[0], regression * weights[1])


def reduced_pair(
    head: HeadSpec, loss: Loss, slots: Slots, classification: Tensor, regression: Tensor
) -> dict[str, Tensor]:
    """The two scalars ``classification`` and ``regression``, out of their ``(B, S)`` values."""
    slots = _weighted(head, loss, slots)
    box_weight = slots.counts.box_weight
    if box_weight is not None:
        regression = regression * box_weight
    factor = loss.classification.box_factor(*_as_read(head, loss, slots), weight=_class_weight(head, slots))
    if factor is not None:
        regression = regression * factor
    total = loss.reduce_classification(classification, slots.counts, head.classify_positives_only)
    boxes = loss.reduce_boxes(regression, slots.counts)
    if loss.classification.scales_boxes:
        boxes = boxes * loss.box_scale(total, boxes)
    published = loss.published_factors(head.stage)
    return {"classification": total * published[0], "regression": boxes * published[1]}


@torch.no_grad()
def baseline_pair(head: HeadSpec, baseline: Loss, slots: Slots) -> dict[str, Tensor]:
    """The two scalars that the detector's own loss has at the same slots; detached."""
    head, slots = _with_background(head, baseline, slots)
    return reduced_pair(head, baseline, slots, *slot_losses(head, baseline, slots))


def further_terms(head: HeadSpec, loss: Loss, slots: Slots, progress: float) -> dict[str, Tensor]:
    """The scalars of the head's branch and of the loss's further terms that count at ``progress``, in [0, 1]."""
    if head.branch is Branch.NONE and not len(loss.terms):
        return {}
    further: dict[str, Term] = dict(loss.terms.items())  # type: ignore[arg-type]
    if head.branch is not Branch.NONE:
        further = {head.branch.value: loss.branch, **further}
    slots = _weighted(head, loss, slots)
    losses = {}
    for name, term in further.items():
        if progress >= term.start:
            view = term.view(slots)
            losses[name] = loss.reduce_term(term, term.values(view), view.counts)
    return losses


def _class_weight(head: HeadSpec, slots: Slots) -> Tensor:
    """``(B, S)`` weight of the slots in the class loss."""
    return slots.positive_weight if head.classify_positives_only else slots.counts.sample.weight


def _as_read(head: HeadSpec, loss: Loss, slots: Slots) -> tuple[Tensor, Tensor]:
    """Logits and columns of the slots in the order of columns of the class loss."""
    logits, column = slots.logits, slots.column
    if loss.classification.background_last and head.background is not None and head.background != head.columns - 1:
        if head.background != 0:
            raise ValueError(f"stage {head.stage}: background column {head.background} is neither first nor last")
        logits = logits.roll(-1, -1)
        column = (column - 1) % head.columns
    return logits, column


def _with_background(head: HeadSpec, loss: Loss, slots: Slots) -> tuple[HeadSpec, Slots]:
    """The head and its slots as a softmax reads them, where a sigmoid trains a head that was made for a softmax.

    The column that was the background's then trains nothing. The sigmoids' logits are the log-odds of a class against
    none, so the background's logit is 0.
    """
    if head.background is not None or loss.classification.activation is not Activation.SOFTMAX:
        return head, slots
    background = 0 if head.first_column else head.columns - 1  # the column that no class has
    logits = slots.logits.clone()
    logits[..., background] = 0.0
    column = torch.where(slots.column == head.columns, background, slots.column)
    head = replace(head, background=background, activation=Activation.SOFTMAX)
    return head, replace(slots, logits=logits, column=column)


def _weighted(head: HeadSpec, loss: Loss, slots: Slots) -> Slots:
    """The slots with the box weights of ``loss``."""
    if loss.box_weight is BoxWeight.SCORE:
        slots = replace(slots, score=head.probabilities(slots.logits, loss.classification).detach().amax(-1))
    return slots.weighted(loss.box_weight)
