"""A detector's predictions in float32, without those that are not finite: one bad number must not decide."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core.structures import Candidates

# Beyond this a squared distance of two boxes leaves float32; no image is that large.
FARTHEST = 1e9  # px


@dataclass(frozen=True)
class Predicted:
    """Scores and boxes of the candidates in float32, zero where not :attr:`usable`."""

    scores: Tensor  # (*, N, K) foreground probabilities
    boxes: Tensor  # (*, N, 4) px
    usable: Tensor  # (*, N) bool: neither padded nor predicted as NaN, infinite or beyond FARTHEST


def read_predictions(candidates: Candidates, assigner: str, *, joint: bool = False) -> Predicted:
    """The predictions of ``candidates``; ValueError without any, naming the ``assigner`` that asked.

    Where a head has a branch beside its classes, an assigner reads what its reference reads: the scores of the classes
    alone, or ``joint`` ones, the square root of their product with the branch (SimOTA). Only an objectness branch is
    part of the class scores either way, because such a head learns the background there.

    A candidate with a score or a coordinate that is not finite is not :attr:`~Predicted.usable`: no assigner makes it
    positive on its account, it comes out negative.
    """
    predictions = candidates.predictions_for(assigner)
    alone = predictions.class_scores
    scores = (predictions.scores if joint or alone is None else alone).detach().float()
    boxes = predictions.boxes.detach().float()
    # A sum of probabilities is finite exactly where all of them are, and costs one pass instead of three.
    usable = candidates.valid & scores.sum(-1).isfinite() & (boxes.abs() < FARTHEST).all(-1)
    return Predicted(_column_by_column(scores, usable), _column_by_column(boxes, usable), usable)


def _column_by_column(values: Tensor, usable: Tensor) -> Tensor:
    """``values (*, N, C)`` with 0 where not usable, all numbers of a column (a class, a coordinate) side by side.

    Pairwise operations take columns, and vectorize on a CPU only where these are contiguous.
    """
    columns = values.mT.clone(memory_format=torch.contiguous_format)
    return columns.masked_fill_(~usable.unsqueeze(-2), 0).mT
