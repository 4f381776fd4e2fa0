"""What a stage trains beside its classes and boxes: a branch for objectness, centerness or IoU, a distribution, ..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.coders import Coder
from harness.core import limits
from harness.core.boxes import aligned_ciou, aligned_iou, centerness
from harness.core.precision import full_precision
from harness.core.structures import Activation
from harness.losses.interface import RegressionLoss, Space
from harness.losses.reduction import BoxWeight, Counts, Normalizer


class Branch(StrEnum):
    """What a head predicts by one logit per candidate, beside the classes; its sigmoid multiplies the scores."""

    NONE = "none"
    OBJECTNESS = "objectness"  # whether there is an object at all (YOLO)
    CENTERNESS = "centerness"  # how central the candidate lies in its object (FCOS)
    IOU = "iou"  # the IoU of the predicted box with its object (PAA, IoU-aware heads)


@dataclass(frozen=True)
class Slots:
    """What a stage trains on, ``(B, S, ...)``: predictions with gradient, targets without."""

    counts: Counts
    coder: Coder
    activation: Activation
    branch_kind: Branch
    logits: Tensor  # (B, S, C)
    column: Tensor  # (B, S) int64, the column that is on; C where none is
    deltas: Tensor  # (B, S, 4) what the coder reads
    references: Tensor  # (B, S, 4 or 5) what the coder's numbers are relative to; a unit box where not positive
    target_boxes: Tensor  # (B, S, 4) px; a unit box where not positive
    assigned_quality: Tensor | None = None  # (B, S) of the assigner
    score: Tensor | None = None  # (B, S) the largest class probability, detached; where a box weight asks for it
    distribution: Tensor | None = None  # (B, S, 4 * bins) logits, where the head predicts one per side
    branch: Tensor | None = None  # (B, S) logits
    refined_deltas: Tensor | None = None  # (B, S, 4) a second, refined box
    image_size: Tensor | None = None  # (B, S, 2) height and width of the image, px; where a box loss asks for it
    # What was computed already. Not functools.cached_property: its lock cannot be compiled.
    _known: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def boxes(self) -> Tensor:
        """``(B, S, 4)`` predicted boxes, px."""
        if "boxes" in self._known:
            return self._known["boxes"]
        # What is decoded under no_grad (an importance, a baseline) must not stand for what a loss trains through.
        key = "boxes" if torch.is_grad_enabled() else "boxes without gradient"
        if key not in self._known:
            self._known[key] = self.coder.decode(self.deltas, self.references)
        return self._known[key]

    @property
    def target_deltas(self) -> Tensor:
        """``(B, S, 4)`` what the coder makes of the objects."""
        if "target_deltas" not in self._known:
            self._known["target_deltas"] = self.coder.encode(self.target_boxes, self.references)
        return self._known["target_deltas"]

    @property
    def iou(self) -> Tensor:
        """``(B, S)`` IoU of the predicted box with its object, detached."""
        if "iou" not in self._known:
            self._known["iou"] = aligned_iou(self.boxes.detach(), self.target_boxes)
        return self._known["iou"]

    @property
    def own_score(self) -> Tensor:
        """``(B, S)`` probability of the column that is on, with gradient; not meaningful where none is."""
        column = self.column.clamp(max=self.logits.shape[-1] - 1).unsqueeze(-1)
        if self.activation is Activation.SIGMOID:
            return self.logits.gather(-1, column).squeeze(-1).sigmoid()
        return self.logits.softmax(-1).gather(-1, column).squeeze(-1)

    @property
    def positive_weight(self) -> Tensor:
        """``(B, S)`` the slots' weights, 0 where not positive."""
        return self.counts.sample.weight * self.counts.sample.positive

    @property
    def best(self) -> Slots:
        """The same slots seen through the last box that the head predicts: the refined one, where there is one."""
        if self.refined_deltas is None:
            return self
        return replace(self, deltas=self.refined_deltas, refined_deltas=None)

    def weighted(self, kind: BoxWeight) -> Slots:
        """The same slots with these box weights."""
        same = replace(self, counts=replace(self.counts, box_weight=self.box_weight(kind)))
        same._known.update(self._known)
        return same

    def box_weight(self, kind: BoxWeight) -> Tensor | None:
        """``(B, S)`` how much the box of each positive counts; ``None`` for 1.

        Raises:
            ValueError: the assigner gives no quality.
        """
        match kind:
            case BoxWeight.ONE:
                return None
            case BoxWeight.CENTERNESS:
                return centerness(self.target_boxes, self.references[..., :4])
            case BoxWeight.IOU:
                return self.iou
            case BoxWeight.SCORE:
                return self.score
            case BoxWeight.ASSIGNED:
                if self.assigned_quality is None:
                    raise ValueError("box_weight=assigned needs an assigner that rates its positives: task_aligned")
                return self.assigned_quality

    def box_loss(self, loss: RegressionLoss, weight: Tensor) -> Tensor:
        """``(B, S)`` the values of a box loss in its own space, multiplied by ``weight (B, S)``."""
        if loss.space is Space.BOXES:
            return loss(self.boxes, self.target_boxes, weight=weight, image_size=self.image_size)
        prediction = self.deltas
        if loss.space is Space.DISTRIBUTION:
            if self.distribution is None:
                raise ValueError(f"{type(loss).__name__} needs a distribution over bins per side")
            prediction = self.distribution
        return loss(prediction, self.target_deltas, weight=weight, image_size=self.image_size)


class Term(nn.Module):
    """A further loss of a stage, reduced like the others. A subclass writes :meth:`values`.

    Args:
        weight: factor of the term, >= 0.
        normalizer: what its sum is divided by; ``None``: what the box loss is divided by.
        start: share of the training from which it counts, in [0, 1].

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(self, weight: float = 1.0, normalizer: str | None = None, start: float = 0.0) -> None:
        super().__init__()
        self.weight = limits.at_least("weight", weight, 0)
        checked = limits.optional(limits.one_of, "normalizer", normalizer, Normalizer)
        self.normalizer = None if checked is None else Normalizer(checked)
        self.start = limits.between("start", start, 0, 1)

    def view(self, slots: Slots) -> Slots:
        """The slots as this term sees them."""
        return slots

    def values(self, slots: Slots) -> Tensor:
        """``(B, S)``, multiplied by the slots' weights; ``slots`` is what :meth:`view` returned."""
        raise TypeError(f"{type(self).__name__} does not define values()")


class BoxTerm(Term):
    """A further loss of the positives' boxes, weighted like the box loss: the distribution focal loss beside the GIoU
    (GFL, YOLOv8), the L1 loss of YOLOX's last epochs.

    Args:
        loss: of the boxes.
        weight: factor of the term, >= 0.
        normalizer: as in :class:`Term`.
        start: as in :class:`Term`.
    """

    def __init__(
        self, loss: RegressionLoss, weight: float = 1.0, normalizer: str | None = None, start: float = 0.0
    ) -> None:
        super().__init__(weight, normalizer, start)
        self.loss = loss

    def values(self, slots: Slots) -> Tensor:
        return slots.box_loss(self.loss, _times(slots.positive_weight, slots.counts.box_weight))


class BranchTerm(Term):
    """Binary cross entropy of a head's branch.

    A centerness or IoU branch learns its target on the positives. An objectness branch learns 1 on the positives, or
    their (complete) IoU, and 0 on the negatives.

    Args:
        weight: factor of the term, >= 0.
        normalizer: what its sum is divided by; ``None``: the stage's.
        objectness: target of a positive of an objectness branch: ``one`` (YOLOX), ``iou``, or ``ciou`` not below 0
            (YOLOv5, YOLOv7).
        level_weights: factor of each level's objectness (YOLOv5: 4, 1, .4), under ``normalizer=level_sampled``.
        focal_gamma: exponent of a focal weight of the objectness with alpha .25 (YOLOv5's ``fl_gamma``), >= 0; 0: none.
        start: as in :class:`Term`.

    Raises:
        ValueError: a parameter out of range.
    """

    TARGETS: ClassVar[tuple[str, ...]] = ("one", "iou", "ciou")

    def __init__(
        self,
        weight: float = 1.0,
        normalizer: str | None = None,
        objectness: str = "one",
        level_weights: Sequence[float] | None = None,
        focal_gamma: float = 0.0,
        start: float = 0.0,
    ) -> None:
        super().__init__(weight, normalizer, start)
        self.objectness = limits.one_of("objectness", objectness, self.TARGETS)
        self.level_weights = None if level_weights is None else tuple(float(factor) for factor in level_weights)
        self.focal_gamma = limits.at_least("focal_gamma", focal_gamma, 0)
        by_level = self.level_weights is None or self.normalizer is Normalizer.LEVEL_SAMPLED
        limits.require(by_level, "level_weights", level_weights, "null unless normalizer=level_sampled")

    def values(self, slots: Slots) -> Tensor:
        assert slots.branch is not None
        logits = full_precision(slots.branch)
        sample = slots.counts.sample
        if slots.branch_kind is Branch.OBJECTNESS:
            return self._objectness_loss(logits, self._objectness(slots) * sample.positive) * sample.weight
        if slots.branch_kind is Branch.CENTERNESS:
            target = centerness(slots.target_boxes, slots.references[..., :4])
        else:
            target = slots.iou
        return _cross_entropy(logits, target) * slots.positive_weight

    def _objectness_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        loss = _cross_entropy(logits, target)
        if self.focal_gamma == 0:
            return loss
        p = logits.sigmoid()
        right = target * p + (1 - target) * (1 - p)
        return loss * (0.25 * target + 0.75 * (1 - target)) * (1 - right).pow(self.focal_gamma)

    def _objectness(self, slots: Slots) -> Tensor:
        if self.objectness == "one":
            return torch.ones_like(slots.counts.sample.weight)
        if self.objectness == "iou":
            return slots.iou
        return aligned_ciou(slots.boxes.detach(), slots.target_boxes).clamp(min=0)


class RefinedBoxTerm(BoxTerm):
    """The loss of a head's second, refined box, weighted by that box's own quality and divided by their sum
    (VarifocalNet, Zhang 2021, section 3.4).

    Args:
        loss: of the boxes.
        weight: factor of the term, >= 0.
        box_weight: one of ``one | centerness | iou | score | assigned``, of the refined box.
    """

    def __init__(self, loss: RegressionLoss, weight: float = 1.0, box_weight: str = "iou") -> None:
        super().__init__(loss, weight, Normalizer.QUALITY)
        self.box_weight = BoxWeight(limits.one_of("box_weight", box_weight, BoxWeight))

    def view(self, slots: Slots) -> Slots:
        if slots.refined_deltas is None:
            raise ValueError("the head predicts no refined box; set detector.refinement=true")
        return slots.best.weighted(self.box_weight)


def _times(weight: Tensor, factor: Tensor | None) -> Tensor:
    return weight if factor is None else weight * factor


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
