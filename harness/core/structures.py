"""The few types that every method shares: what goes in, what an assigner says, what a sampler takes.

Shapes: ``*`` is any number of leading batch dimensions (none for a single image), ``G`` padded objects, ``N`` padded
candidates, ``S`` sample slots, ``K`` foreground classes. Boxes are ``(x1, y1, x2, y2)`` in pixels, continuous (no +1).
A label is a foreground class ``0..K-1``: only a detector's :class:`~harness.criterion.heads.HeadSpec` knows of
background columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

NEGATIVE = -1
IGNORED = -2


class Need(StrEnum):
    """What a piece asks the flow to provide. The flow provides exactly that, so that nothing is computed in vain."""

    PREDICTIONS = "predictions"  # candidates.predictions: scores and decoded boxes, detached
    LOSSES = "losses"  # CandidateLosses of every candidate, without gradient
    LEVELS = "levels"  # candidates.level and candidates.num_levels
    STRIDES = "strides"  # candidates.stride
    ANCHORS = "anchor shapes"  # candidates are anchors, whose chosen shapes an object can be compared with
    SHAPES = "boxes with shapes of their own"  # candidates are anchors or proposals: a point has its stride only
    NOISE = "noise"  # one uniform number in [0, 1) per candidate
    QUALITY = "quality"  # a soft target in [0, 1] per positive
    BATCH = "the whole batch"  # what is chosen of an image depends on the other images of the batch
    REWEIGHTING = "reweighting"  # the sampler weighs the class losses of its slots once these are known
    MINING = "mining"  # pauses of the training in which the training set is mined, see MiningPlan
    BOX_LOSSES = "box losses"  # the box loss of each positive, for a class loss that looks at both
    CLASS_COUNTS = "class counts"  # ClassCounts of the training set
    IMAGE_SIZE = "image size"  # height and width of the image of each candidate, px


class Activation(StrEnum):
    """How logits become probabilities."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


@dataclass(frozen=True)
class GroundTruth:
    """The padded objects of a batch.

    A crowd box is never an object to match: :attr:`matchable` leaves it out. What lies in it trains as background
    unless the assigner ignores it: ``max_iou`` and ``atss`` do where ``ignore_iof_thr`` is above 0 (by default it is
    off), ``center_region`` within the region shrunk by ``ignore_gt_scale``.
    """

    boxes: Tensor  # (*, G, 4) float
    labels: Tensor  # (*, G) int64, 0..K-1
    valid: Tensor  # (*, G) bool, False where padded
    crowd: Tensor  # (*, G) bool
    hard_negative: Tensor | None = None  # (*, G) bool: a false positive of an earlier round, no object: valid is False
    hard_positive: Tensor | None = None  # (*, G) bool: an object that the last mining round missed or misnamed

    @property
    def matchable(self) -> Tensor:
        """``(*, G)`` bool: the real objects, without padding and crowd regions."""
        return self.valid & ~self.crowd

    @classmethod
    def pad(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> GroundTruth:
        """Stacks the objects of ``B`` images, ``(G_i, 4)`` and ``(G_i,)``, into one padded ``(B, G, ...)`` batch."""
        valid = pad_sequence([torch.ones_like(label, dtype=torch.bool) for label in labels], batch_first=True)
        return cls(
            boxes=pad_sequence(list(boxes), batch_first=True),
            labels=pad_sequence(list(labels), batch_first=True),
            valid=valid,
            crowd=torch.zeros_like(valid),
        )


@dataclass(frozen=True)
class Predictions:
    """What the detector says of every candidate right now; detached from the graph."""

    scores: Tensor  # (*, N, K) foreground probabilities as at inference, a branch included
    boxes: Tensor  # (*, N, 4) decoded
    class_scores: Tensor | None = None  # (*, N, K) of the class alone; None: the same as scores


@dataclass(frozen=True)
class Candidates:
    """Anchors, points or proposals. A point is the center of a square box whose side is its stride."""

    boxes: Tensor  # (*, N, 4) float
    valid: Tensor  # (*, N) bool, False where padded
    level: Tensor | None = None  # (N,) int64, the pyramid level
    stride: Tensor | None = None  # (N,) float, px
    num_levels: int = 1
    predictions: Predictions | None = None
    is_truth: Tensor | None = None  # (*, N) bool: a ground-truth box that joined the proposals
    image_sizes: tuple[tuple[int, int], ...] | None = None  # (height, width) of each of the B images unpadded, px

    @property
    def centers(self) -> Tensor:
        """``(*, N, 2)`` box centers, px."""
        return (self.boxes[..., :2] + self.boxes[..., 2:]) / 2

    @property
    def is_point(self) -> Tensor:
        """``(*, N)`` bool: the box only stands for a point, as the square of its stride around it."""
        if self.stride is None:
            return torch.zeros_like(self.valid)
        stride = self.stride.unsqueeze(-1)
        return ((self.boxes[..., 2:] - self.boxes[..., :2] - stride).abs() < 0.01 * stride).all(-1)

    def predicted(self, predictions: Predictions | None) -> Candidates:
        """The same candidates with these predictions."""
        return replace(self, predictions=predictions)

    def predictions_for(self, asker: str) -> Predictions:
        """The predictions; ValueError where there are none, naming the ``asker`` that needs them."""
        if self.predictions is None:
            raise ValueError(f"{asker} needs the predictions of the candidates, but they carry none")
        return self.predictions

    def strides_for(self, asker: str) -> Tensor:
        """``(N,)`` strides, px; ValueError where there are none, naming the ``asker`` that needs them."""
        if self.stride is None:
            raise ValueError(f"{asker} needs the strides of the candidates, but they carry none")
        return self.stride

    def levels_for(self, asker: str) -> Tensor:
        """``(N,)`` int64 levels; ValueError where there are none, naming the ``asker`` that needs them."""
        if self.level is None:
            raise ValueError(f"{asker} needs the levels of the candidates, but they carry none")
        return self.level


@dataclass(frozen=True)
class Assignment:
    """Who is positive for which object, or not at all."""

    gt_index: Tensor  # (*, N) int64: >= 0 the object, NEGATIVE (-1), IGNORED (-2), which padding is
    max_iou: Tensor  # (*, N) float32 IoU with the best object that is no crowd, whatever was decided; 0 without
    quality: Tensor | None = None  # (*, N) the assigner's own soft target in [0, 1]

    @property
    def positive(self) -> Tensor:
        """``(*, N)`` bool."""
        return self.gt_index >= 0

    @property
    def negative(self) -> Tensor:
        """``(*, N)`` bool."""
        return self.gt_index == NEGATIVE


@dataclass(frozen=True)
class CandidateLosses:
    """The loss of every candidate under the current weights; detached. What hard example mining ranks by."""

    classification: Tensor  # (*, N)
    regression: Tensor  # (*, N), 0 where not positive

    @property
    def total(self) -> Tensor:
        """``(*, N)``, the sum of both."""
        return self.classification + self.regression


@dataclass(frozen=True)
class MiningPlan:
    """When the training set is mined between rounds of training, and what counts as a mistake of the detector."""

    every_epochs: float  # of training in a round, above 0
    score_thr: float  # a detection is confident from this score on
    max_iou: float  # a confident detection is false where its IoU with every object is below this
    max_per_image: int  # at most so many false positives of an image in a round
    positives: bool = False  # whether objects that are missed or found as another class are stored as well


@dataclass(frozen=True)
class ClassCounts:
    """How often each class occurs in the training set; of ``K`` classes, or of the columns of a head's logits."""

    images: Tensor  # (K,) int64, images with at least one object of the class
    objects: Tensor  # (K,) int64, objects of the class
    num_images: int  # of the training set


@dataclass(frozen=True)
class SamplingResult:
    """Which candidates train, with what weight: a fixed number of slots, an unused slot has weight 0."""

    index: Tensor  # (*, S) int64 into the candidates, unique among the used slots
    positive: Tensor  # (*, S) bool, False where unused
    weight: Tensor  # (*, S) float, 0 where unused
    in_order: bool = False  # slot s is candidate s (S = N): taking then costs nothing

    @property
    def used(self) -> Tensor:
        """``(*, S)`` bool."""
        return self.weight > 0

    @property
    def negative(self) -> Tensor:
        """``(*, S)`` bool, False where unused."""
        return self.used & ~self.positive

    def take(self, values: Tensor) -> Tensor:
        """The slots' values out of the candidates': ``(*, N)`` or ``(*, N, C)`` becomes ``(*, S)`` or ``(*, S, C)``."""
        if self.in_order:
            return values
        if values.dim() == self.index.dim():
            return values.gather(-1, self.index)
        return values.gather(-2, self.index.unsqueeze(-1).expand(*self.index.shape, values.shape[-1]))


@runtime_checkable
class Assigner(Protocol):
    """Decides which candidates are positive, negative or ignored. Pure: no state, inputs unchanged, no gradient."""

    @property
    def needs(self) -> frozenset[Need]: ...

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment: ...


@runtime_checkable
class LossAwareAssigner(Assigner, Protocol):
    """An assigner of two passes (``Need.LOSSES``): it proposes, sees the losses of its proposal, and decides (PAA)."""

    def refine(
        self, truth: GroundTruth, candidates: Candidates, proposed: Assignment, losses: CandidateLosses
    ) -> Assignment: ...


@runtime_checkable
class Sampler(Protocol):
    """Decides which assigned candidates train. Pure: the only randomness is ``noise``, drawn by the caller.

    ``add_gt_as_proposals`` asks an RoI stage to let the ground-truth boxes join the proposals.
    """

    @property
    def needs(self) -> frozenset[Need]: ...

    @property
    def add_gt_as_proposals(self) -> bool: ...

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult: ...


@runtime_checkable
class MiningSampler(Sampler, Protocol):
    """A sampler that declares ``Need.MINING``: the training set is mined by its plan, and what is found comes back."""

    @property
    def mining(self) -> MiningPlan: ...


@runtime_checkable
class ReweightingSampler(Sampler, Protocol):
    """A sampler that declares ``Need.REWEIGHTING``: it weighs the classification losses of its slots.

    ``class_weights`` is given ``(*, S)`` each: the slots, their objects and labels, the IoU of the predicted box of
    that label with its object, and the classification losses, weighted and detached. It returns a factor of the losses.
    """

    def class_weights(
        self, sample: SamplingResult, gt_index: Tensor, labels: Tensor, iou: Tensor, losses: Tensor
    ) -> Tensor: ...
