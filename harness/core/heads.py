"""Facts of a detection head: the only thing the core knows about a detector.

Floor 3. A detector adapter states these facts once; the criterion and the compatibility check read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from harness.coders import Coder
from harness.core.structures import Activation, Predictions, SamplingResult, full_precision
from harness.losses.interface import ClassificationLoss


class Geometry(StrEnum):
    """What a candidate is."""

    ANCHORS = "anchors"  # several boxes per cell, of chosen shapes
    POINTS = "points"  # one point per cell
    PROPOSALS = "proposals"  # boxes that an earlier stage found


@dataclass(frozen=True)
class Outputs:
    """The raw outputs of a head for its candidates, or for the slots of a sample."""

    logits: Tensor  # (*, N, columns)
    deltas: Tensor  # (*, N, 4) or (*, N, 4 * columns) where class-specific
    objectness: Tensor | None = None  # (*, N) logits of a separate objectness branch (YOLOX): multiplies the scores

    def take(self, sample: SamplingResult) -> Outputs:
        """The outputs at the slots of ``sample``."""
        objectness = None if self.objectness is None else sample.take(self.objectness)
        return Outputs(sample.take(self.logits), sample.take(self.deltas), objectness)


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
    regression_bins: int = 0  # > 0 where each side is a distribution over so many bins

    def target_columns(self, labels: Tensor, positive: Tensor) -> Tensor:
        """``(*, S)`` int64: the column that is on for each slot; background where not positive."""
        background = self.columns if self.background is None else self.background
        return torch.where(positive, labels + self.first_column, background)

    def probabilities(self, logits: Tensor, loss: ClassificationLoss) -> Tensor:
        """``(*, N, K)``: what ``logits (*, N, columns)`` say of the foreground classes, as ``loss`` trains them."""
        logits = full_precision(logits)
        if not (loss.background_last and self.background == 0):
            return loss.activation_of(logits)[..., self.first_column : self.first_column + self.num_classes]
        return loss.activation_of(logits.roll(-1, -1))[..., : self.num_classes]

    def foreground_scores(self, outputs: Outputs, loss: ClassificationLoss) -> Tensor:
        """``(*, N, K)`` scores as at inference; with an objectness the square root of its product with the class's."""
        scores = self.probabilities(outputs.logits, loss)
        if outputs.objectness is not None:
            scores = (scores * full_precision(outputs.objectness).sigmoid().unsqueeze(-1)).sqrt()
        return scores

    def deltas_of(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """``(*, N, 4)``: the deltas of each candidate's class, the only ones where not class-specific."""
        if not self.class_specific:
            return deltas
        columns = deltas.unflatten(-1, (self.columns, 4))
        index = (labels + self.first_column)[..., None, None].expand(*labels.shape, 1, 4)
        return columns.gather(-2, index).squeeze(-2)

    def predictions(self, outputs: Outputs, boxes: Tensor, loss: ClassificationLoss) -> Predictions:
        """What the head predicts for candidate ``boxes (*, N, 4)``; class-specific deltas: of the likeliest class."""
        scores = self.foreground_scores(outputs, loss)
        deltas = self.deltas_of(full_precision(outputs.deltas), scores.argmax(-1))
        return Predictions(scores.detach(), self.coder.decode(deltas, boxes).detach())
