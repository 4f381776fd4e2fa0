"""Probabilistic anchor assignment: the losses of an object's anchors say which of them are positive (PAA)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.gaussian_mixture import COVARIANCE_TYPES, fit_mixture
from harness.assigners.building_blocks.padding import clean
from harness.assigners.building_blocks.point_squares import with_squares
from harness.assigners.max_iou import MaxIoUAssigner
from harness.core import limits
from harness.core.chunking import MEMORY_BOUND
from harness.core.structures import NEGATIVE, Assignment, CandidateLosses, Candidates, GroundTruth, Need
from harness.core.topk import rank_within


class PAAAssigner:
    """Two passes (Kim & Lee 2020, section 3.1; mmdetection's form).

    Calling it *proposes*: candidates with an IoU of at least ``pos_iou_thr`` with their best object, and each object's
    best candidates (:class:`~harness.assigners.max_iou.MaxIoUAssigner`). :meth:`refine` then sees their losses. Of each
    object the ``topk`` proposed candidates of lowest loss on every level stay, and a mixture of two Gaussians is fitted
    to these losses. Positive are those of the component of low loss up to its most likely one (variant (c) of the
    paper's figure 3); everything else that was proposed becomes negative: all of it where an object has one candidate
    only, and where no candidate falls into the component of low loss (as in mmdetection; the authors' code keeps all of
    them there).

    Left out: the IoU branch and score voting of the paper (sections 3.2 and 3.3) are parts of a recipe, not of the
    assigner.

    Points (FCOS, YOLOX) are proposed as squares of ``point_scale`` strides, as in
    :class:`~harness.assigners.atss.ATSSAssigner`.

    Args:
        topk: candidates of an object and level.
        pos_iou_thr: lowest IoU of a proposed candidate; below it a candidate is negative.
        min_pos_iou: lowest IoU at which an object's best candidates are proposed anyway.
        covariance_type: ``diag``, ``full``, ``spherical`` (the same thing in one dimension) or ``tied``.
        tol: the mixture has converged when its mean log-likelihood changes by less.
        reg_covar: added to its variances.
        max_iter: the most steps of expectation maximization.
        point_scale: side of the square that stands for a point, in strides; anchors and proposals stay as they are.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; in :meth:`refine`, candidates without levels.

    A proposed candidate whose loss is not finite becomes negative.
    """

    needs: frozenset[Need] = frozenset({Need.LOSSES, Need.LEVELS})

    def __init__(
        self,
        topk: int = 9,
        pos_iou_thr: float = 0.1,
        min_pos_iou: float = 0.0,
        covariance_type: str = "diag",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        point_scale: float = 8.0,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.propose = MaxIoUAssigner(pos_iou_thr, pos_iou_thr, min_pos_iou=min_pos_iou, memory_bound=memory_bound)
        self.memory_bound = self.propose.memory_bound
        self.point_scale = limits.above("point_scale", point_scale, 0)
        self.topk = limits.count("topk", topk, 1)
        self.covariance_type = limits.one_of("covariance_type", covariance_type, COVARIANCE_TYPES)
        self.tol = limits.at_least("tol", tol, 0)
        self.reg_covar = limits.above("reg_covar", reg_covar, 0)
        self.max_iter = limits.count("max_iter", max_iter, 1)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """The proposal: ``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        proposed = self.propose(truth, with_squares(candidates, self.point_scale))
        return replace(proposed, max_iou=overlaps(truth, candidates, memory_bound=self.memory_bound).iou)

    def refine(
        self, truth: GroundTruth, candidates: Candidates, proposed: Assignment, losses: CandidateLosses
    ) -> Assignment:
        """``proposed`` with only the likely ones of its positives, by their ``(*, N)`` losses."""
        level = candidates.levels_for("PAAAssigner")
        objects, count = truth.labels.shape[-1], candidates.valid.shape[-1]
        if objects == 0 or count == 0:
            return proposed
        loss = losses.total.float()
        group = proposed.gt_index * candidates.num_levels + level
        member = proposed.positive & candidates.valid & loss.isfinite()
        group = torch.where(member, group, objects * candidates.num_levels)
        values, owner = _lowest_of_each(loss, group, objects * candidates.num_levels, min(self.topk, count))
        # All levels of an object side by side, then in order of the loss.
        values, owner = (table.unflatten(-2, (objects, -1)).flatten(-2) for table in (values, owner))
        values, order = values.sort(dim=-1, stable=True)
        owner = owner.gather(-1, order)
        likely = self._likely(values, owner < count)
        chosen = torch.zeros((*proposed.gt_index.shape[:-1], count + 1), dtype=torch.bool, device=loss.device)
        chosen = chosen.scatter(-1, torch.where(likely, owner, count).flatten(-2), True)[..., :-1]
        return replace(proposed, gt_index=torch.where(proposed.positive & ~chosen, NEGATIVE, proposed.gt_index))

    def _likely(self, values: Tensor, mask: Tensor) -> Tensor:
        """``(*, G, S)`` bool: the samples, in ascending order, that the mixture calls positive."""
        mixture = fit_mixture(
            values,
            mask,
            covariance_type=self.covariance_type,
            tol=self.tol,
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
        )
        likelihood = torch.where(mixture.first, mixture.log_likelihood, -torch.inf)
        last = likelihood.argmax(-1, keepdim=True)
        enough = mask.sum(-1, keepdim=True) >= 2  # one sample is no mixture
        return mixture.first & enough & (torch.arange(values.shape[-1], device=values.device) <= last)


def _lowest_of_each(loss: Tensor, group: Tensor, groups: int, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` candidates of lowest loss of every group, by one sort instead of a ``(groups, N)`` tensor.

    Args:
        loss: ``(*, N)``.
        group: ``(*, N)`` int64, ``groups`` for candidates in none.
        groups: how many there are.
        k: slots of a group.

    Returns:
        ``(*, groups, k)`` losses, infinite where a slot is unused, and candidates, N there.
    """
    count = loss.shape[-1]
    rank = rank_within(loss, group)
    # What does not fit goes to a slot behind the last one.
    slot = torch.where((rank < k) & (group < groups), group * k + rank, groups * k)
    shape = (*loss.shape[:-1], groups * k + 1)
    values = loss.new_full(shape, torch.inf).scatter(-1, slot, loss)
    position = torch.arange(count, device=loss.device).expand(loss.shape)
    owner = torch.full(shape, count, device=loss.device).scatter(-1, slot, position)
    return values[..., :-1].unflatten(-1, (groups, k)), owner[..., :-1].unflatten(-1, (groups, k))
