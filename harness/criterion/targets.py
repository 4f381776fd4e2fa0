"""The targets of the sampled slots, and the slots with predictions and targets side by side, as losses read them."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core.precision import full_precision
from harness.core.structures import Assignment, Candidates, GroundTruth, SamplingResult
from harness.criterion.heads import HeadSpec, Outputs
from harness.criterion.stage import Targets
from harness.losses.reduction import Counts
from harness.losses.terms import Slots


def targets_of(
    head: HeadSpec, truth: GroundTruth, candidates: Candidates, gt_index: Tensor, sample: SamplingResult
) -> Targets:
    """What the slots of ``sample``, whose objects are ``gt_index (B, S)``, should learn."""
    references = sample.take(head.references(candidates))
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


def slots_of(
    head: HeadSpec,
    outputs: Outputs,
    targets: Targets,
    assignment: Assignment,
    sample: SamplingResult,
    candidates: Candidates,
    *,
    sized: bool,
) -> Slots:
    """The predictions and the targets of the slots, side by side; with the size of their image if ``sized``."""
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
        image_size=image_size_of(head, candidates, targets.boxes) if sized else None,
    )


def image_size_of(head: HeadSpec, candidates: Candidates, boxes: Tensor) -> Tensor:
    """``(B, S, 2)`` height and width of the image of each of the slots' ``boxes (B, S, 4)``.

    Raises:
        ValueError: the candidates do not know the size of their images.
    """
    if candidates.image_sizes is None:
        raise ValueError(f"stage {head.stage}: a loss needs the size of the images; the candidates lack it")
    # Filled value by value: a copy of a list from the host would make a GPU wait.
    sizes = torch.stack([torch.stack([boxes.new_full((), side) for side in s]) for s in candidates.image_sizes])
    return sizes.unsqueeze(1).expand(*boxes.shape[:-1], 2)


def all_candidates(assignment: Assignment, candidates: Candidates, dtype: torch.dtype) -> SamplingResult:
    """Every candidate as a slot, in order: of weight 1 where it is positive or negative, else 0."""
    shape, device = candidates.valid.shape, candidates.valid.device
    return SamplingResult(
        index=torch.arange(shape[-1], device=device).expand(shape),
        positive=assignment.positive & candidates.valid,
        weight=((assignment.positive | assignment.negative) & candidates.valid).to(dtype),
        in_order=True,
    )
