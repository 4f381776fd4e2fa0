"""What one stage is made of, and what it decided to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from harness.core import limits
from harness.core.matches import Matches
from harness.core.structures import (
    Assigner,
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    Sampler,
    SamplingResult,
)
from harness.losses.pair import Loss


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
