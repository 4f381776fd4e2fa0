"""Facts of a detection head: the only thing the core knows about a detector.

A detector adapter states these facts once; the criterion and the compatibility check read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.coders import Coder
from harness.core.precision import full_precision, without_autocast
from harness.core.structures import Activation, Candidates, ClassCounts, Predictions, SamplingResult
from harness.losses.interface import ClassificationLoss
from harness.losses.terms import Branch


class Geometry(StrEnum):
    """What a candidate is."""

    ANCHORS = "anchors"  # several boxes per cell, of chosen shapes
    POINTS = "points"  # one point per cell
    PROPOSALS = "proposals"  # boxes that an earlier stage found


@dataclass(frozen=True)
class Outputs:
    """The raw outputs of a head for its candidates, or for the slots of a sample."""

    logits: Tensor  # (*, N, columns)
    deltas: Tensor  # (*, N, 4), (*, N, 4 * columns) where class-specific, (*, N, 4 * bins) where a distribution
    branch: Tensor | None = None  # (*, N) logits of an objectness, centerness or IoU branch: multiplies the scores
    refined: Tensor | None = None  # (*, N, 4) deltas of a second, refined box

    def take(self, sample: SamplingResult) -> Outputs:
        """The outputs at the slots of ``sample``."""
        return self._each(sample.take)

    def detach(self) -> Outputs:
        """The same outputs without gradient."""
        return self._each(Tensor.detach)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Outputs:
        return Outputs(
            change(self.logits),
            change(self.deltas),
            None if self.branch is None else change(self.branch),
            None if self.refined is None else change(self.refined),
        )


@dataclass(frozen=True)
class HeadSpec:
    """One stage's head: how to read its outputs and how its targets are coded.

    ``stage`` names it everywhere (losses, histograms, configuration): ``rpn``, ``roi``, ``roi2``, ``dense``.
    Foreground class ``k`` of the core is column ``k + first_column``. With softmax the background has its own column;
    with sigmoid it is "no column on", written as target ``columns``.
    """

    stage: str
    num_classes: int  # K, foreground classes as the core sees them (1 in an RPN)
    columns: int  # of the logits
    first_column: int  # of foreground class 0
    background: int | None  # column of the background (softmax), None with sigmoid
    activation: Activation
    geometry: Geometry
    coder: Coder
    class_specific: bool = False
    has_levels: bool = True
    class_agnostic_truth: bool = False  # an RPN: every object counts as class 0
    classify_positives_only: bool = False  # a separate objectness branch learns the background (YOLOX)
    regression_bins: int = 0  # > 0 where each side is a distribution over so many bins: 0, 1, ... of the coder's unit
    branch: Branch = Branch.NONE  # what the branch of the outputs predicts
    refines: bool = False  # the head predicts a second, refined box, which is the one that counts

    def target_columns(self, labels: Tensor, positive: Tensor) -> Tensor:
        """``(*, S)`` int64: the column that is on for each slot; background where not positive."""
        background = self.columns if self.background is None else self.background
        return torch.where(positive, labels + self.first_column, background)

    def column_counts(self, counts: ClassCounts, *, background_last: bool = False) -> ClassCounts:
        """The counts of the ``K`` classes, one entry for each column; 0 in a background column.

        Args:
            counts: of the classes.
            background_last: the loss reads the columns with the background moved to the end.
        """
        images, objects = counts.images, counts.objects
        if self.class_agnostic_truth:  # one class: an image counts as often as it holds a class, at most once
            images = images.sum().clamp(max=counts.num_images).unsqueeze(0)
            objects = objects.sum().unsqueeze(0)
        first = 0 if background_last and self.background == 0 else self.first_column
        after = self.columns - first - len(images)
        pad = (first, after)
        return ClassCounts(F.pad(images, pad), F.pad(objects, pad), counts.num_images)

    def probabilities(self, logits: Tensor, loss: ClassificationLoss) -> Tensor:
        """``(*, N, K)``: what ``logits (*, N, columns)`` say of the foreground classes, as ``loss`` trains them."""
        logits = full_precision(logits)
        if not (loss.background_last and self.background == 0):
            return loss.activation_of(logits)[..., self.first_column : self.first_column + self.num_classes]
        return loss.activation_of(logits.roll(-1, -1))[..., : self.num_classes]

    def foreground_scores(self, outputs: Outputs, loss: ClassificationLoss) -> Tensor:
        """``(*, N, K)`` scores as at inference; with a branch the square root of its product with the class's."""
        scores = self.probabilities(outputs.logits, loss)
        if outputs.branch is not None:
            scores = (scores * full_precision(outputs.branch).sigmoid().unsqueeze(-1)).sqrt()
        return scores

    def references(self, candidates: Candidates) -> Tensor:
        """``(*, N, 4)`` what the coder's numbers are relative to: the candidates' boxes; ``(*, N, 5)``, with their
        strides, where the coder asks for them."""
        if not self.coder.needs_stride:
            return candidates.boxes
        if candidates.stride is None:
            raise ValueError(f"stage {self.stage}: {type(self.coder).__name__} needs the strides of the candidates")
        stride = candidates.stride.to(candidates.boxes.dtype).unsqueeze(-1)
        return torch.cat((candidates.boxes, stride.expand(*candidates.boxes.shape[:-1], 1)), -1)

    def deltas_of(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """``(*, N, 4)`` what the coder reads: the deltas of each candidate's class where they are class-specific, the
        expected values where they are distributions (GFL, Li 2020, eq. 4)."""
        if self.regression_bins:
            bins = torch.arange(self.regression_bins, dtype=deltas.dtype, device=deltas.device)
            shares = deltas.unflatten(-1, (4, self.regression_bins)).softmax(-1)
            with without_autocast(deltas.device):
                return shares @ bins
        if not self.class_specific:
            return deltas
        columns = deltas.unflatten(-1, (self.columns, 4))
        index = (labels + self.first_column)[..., None, None].expand(*labels.shape, 1, 4)
        return columns.gather(-2, index).squeeze(-2)

    def predictions(self, outputs: Outputs, references: Tensor, loss: ClassificationLoss) -> Predictions:
        """What the head predicts for candidates, detached; class-specific deltas: of the likeliest class.

        Args:
            outputs: ``(*, N, ...)``.
            references: of the candidates, as :meth:`references` returns them.
            loss: of the classes: how its logits become probabilities.
        """
        scores, class_scores = self.foreground_scores(outputs, loss), None
        if outputs.branch is not None:
            class_scores = self.probabilities(outputs.logits, loss)
            if self.branch is Branch.OBJECTNESS:  # it alone learns the background: the class means "if an object"
                class_scores = class_scores * full_precision(outputs.branch).sigmoid().unsqueeze(-1)
            class_scores = class_scores.detach()
        deltas = outputs.deltas if outputs.refined is None else outputs.refined
        deltas = self.deltas_of(full_precision(deltas), scores.argmax(-1))
        return Predictions(scores.detach(), self.coder.decode(deltas, references).detach(), class_scores)
