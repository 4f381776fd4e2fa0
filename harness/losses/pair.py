"""A stage's loss: one for the classes, one for the boxes, further terms, and what their sums are divided by."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.core import limits
from harness.core.processes import process_count, reduce_sum
from harness.core.structures import Need
from harness.losses.interface import ClassificationLoss, RegressionLoss
from harness.losses.reduction import BoxWeight, Counts, Normalizer, reduce
from harness.losses.terms import BoxTerm, BranchTerm, Term

BALANCES = ("none", "published", "equal")


class Loss(nn.Module):
    """The losses of a stage, their weights and their normalizers.

    Args:
        classification: the loss of the logits, over all used slots.
        regression: the loss of the boxes, over the positive slots.
        normalizer: what the sums are divided by (:class:`~harness.losses.reduction.Normalizer`): ``sampled |
            positives | image_positives | avg_factor | positives_or_images | quality | weights | level_positives |
            level_sampled | one``. A loss that declares a normalizer of its own (GHM) keeps it.
        classification_weight: factor of the classification term, >= 0; ``None`` is 1, or the published weight under
            ``balance=published``.
        regression_weight: the same of the regression term.
        box_weight: how much the box of a positive counts: ``one | centerness | iou | score | assigned``.
        box_normalizer: of the box loss; ``None`` is ``normalizer``. With a ``box_weight`` the papers take ``quality``,
            the sum of these weights over the batch.
        quality_floor: the least that ``quality`` divides by, >= 0.
        branch: the loss of the head's objectness, centerness or IoU branch; ``None`` is the plain
            :class:`~harness.losses.terms.BranchTerm`. Without meaning for a head without a branch.
        terms: further losses of the recipe, by name (a distribution focal loss, an L1 loss, ...).
        balance: ``none``; ``published``: a weight that is not given is the one that the loss was published with in
            this kind of stage; or ``equal``: scale the class term and the box term so that their means over the first
            100 iterations are those of the detector's own loss (:class:`~harness.losses.balance.Balance`). A warm-up
            with a loss of its own is scaled by itself, and the loss after it over its own first 100 iterations.
        every_match: a candidate that matches several objects trains its class and its box for each of them, as in
            YOLOv5 and YOLOv7; else for the one that the assignment keeps. Its objectness is always that one's.
        batch_factor: multiply every term by the number of images, as YOLOv5 to YOLOv8 do.

    Raises:
        TypeError: ``classification`` or ``regression`` is no loss of its kind.
        ValueError: an unknown normalizer or box weight, or a negative weight.
    """

    def __init__(
        self,
        classification: ClassificationLoss,
        regression: RegressionLoss,
        normalizer: str = Normalizer.SAMPLED,
        classification_weight: float | None = None,
        regression_weight: float | None = None,
        box_weight: str = BoxWeight.ONE,
        box_normalizer: str | None = None,
        quality_floor: float = 1.0,
        branch: BranchTerm | None = None,
        terms: Mapping[str, Term] | None = None,
        balance: str = "none",
        every_match: bool = False,
        batch_factor: bool = False,
    ) -> None:
        super().__init__()
        _check_kind("classification", classification, ClassificationLoss)
        _check_kind("regression", regression, RegressionLoss)
        self.classification = classification
        self.regression = regression
        self.normalizer = Normalizer(limits.one_of("normalizer", normalizer, Normalizer))
        chosen_weight = limits.optional(limits.at_least, "classification_weight", classification_weight, 0)
        self.classification_weight = 1.0 if chosen_weight is None else chosen_weight
        chosen_weight = limits.optional(limits.at_least, "regression_weight", regression_weight, 0)
        self.regression_weight = 1.0 if chosen_weight is None else chosen_weight
        self._given = (classification_weight is not None, regression_weight is not None)
        self.box_weight = BoxWeight(limits.one_of("box_weight", box_weight, BoxWeight))
        chosen = limits.optional(limits.one_of, "box_normalizer", box_normalizer, Normalizer)
        self.box_normalizer = self.normalizer if chosen is None else Normalizer(chosen)
        self.quality_floor = limits.at_least("quality_floor", quality_floor, 0)
        self.branch = BranchTerm() if branch is None else branch
        self.terms = nn.ModuleDict(dict(terms or {}))
        self.balance = limits.one_of("balance", balance, BALANCES)
        self.every_match = every_match
        self.batch_factor = batch_factor

    @property
    def box_needs(self) -> frozenset[Need]:
        """What the box loss and the further losses of boxes need."""
        boxes = [self.regression, *(term.loss for term in self.terms.values() if isinstance(term, BoxTerm))]
        return frozenset[Need]().union(*(loss.needs for loss in boxes))

    def published_factors(self, stage: str) -> tuple[float, float]:
        """What ``balance=published`` multiplies the class term and the box term by in a stage, ``rpn``, ``roi``,
        ``roi2``, ``dense``, ...: 1 where a weight is given, or none was published for this kind of stage."""
        if self.balance != "published":
            return 1.0, 1.0
        kind = stage.rstrip("0123456789")
        tables = (self.classification.published_weight, self.regression.published_weight)
        factors = [1.0 if given else table.get(kind, 1.0) for table, given in zip(tables, self._given, strict=True)]
        return factors[0], factors[1]

    def weights(self, stage: str) -> tuple[float, float]:
        """The weights of the class term and of the box term in a stage."""
        published = self.published_factors(stage)
        return self.classification_weight * published[0], self.regression_weight * published[1]

    def reduce_classification(self, values: Tensor, counts: Counts, positives_only: bool = False) -> Tensor:
        """The scalar of the ``(B, S)`` values of the class loss.

        Args:
            values: weighted by the slots.
            counts: of the slots.
            positives_only: the head classifies its positives only: a mean over examples is one over these.
        """
        own = self.classification.normalizer
        if own is Normalizer.SAMPLED and positives_only:
            own = Normalizer.POSITIVES
        return self._reduce(values, counts, own or self.normalizer) * self.classification_weight

    def reduce_boxes(self, values: Tensor, counts: Counts) -> Tensor:
        """The scalar of the ``(B, S)`` values of the box loss, weighted by the slots and by their box weights."""
        own = self.regression.normalizer
        return self._reduce(values, counts, own or self.box_normalizer) * self.regression_weight

    def reduce_term(self, term: Term, values: Tensor, counts: Counts) -> Tensor:
        """The scalar of the ``(B, S)`` values of a further term."""
        default = self.normalizer if isinstance(term, BranchTerm) else self.box_normalizer
        levels = term.level_weights if isinstance(term, BranchTerm) else None
        return self._reduce(values, counts, term.normalizer or default, levels) * term.weight

    def box_scale(self, classification: Tensor, boxes: Tensor) -> Tensor:
        """The factor that gives the box term the value of the class term, times ``regression_weight``; no gradient.

        Both are reduced terms with their weights; 1 where there is no box loss.
        """
        values = reduce_sum(torch.stack((classification, boxes)).detach())
        ratio = values[0] / values[1].where(values[1] > 0, 1.0) * self.regression_weight
        return ratio.where(values[1] > 0, 1.0)

    def _reduce(
        self, values: Tensor, counts: Counts, normalizer: Normalizer, level_weights: tuple[float, ...] | None = None
    ) -> Tensor:
        total = reduce(values, counts, normalizer, quality_floor=self.quality_floor, level_weights=level_weights)
        return total * (values.shape[0] * process_count()) if self.batch_factor else total


def _check_kind(name: str, value: object, kind: type[nn.Module]) -> None:
    if not isinstance(value, kind):
        got = f"the class {value.__name__}: call it" if isinstance(value, type) else f"a {type(value).__name__}"
        raise TypeError(f"{name} must be an object of a subclass of harness.losses.{kind.__name__}, got {got}")
