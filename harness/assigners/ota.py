"""Optimal transport assignment: objects and the background supply labels, candidates demand one each (OTA)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.assigners.building_blocks.best_overlaps import overlaps
from harness.assigners.building_blocks.matching import highest_object
from harness.assigners.building_blocks.padding import clean, settle
from harness.assigners.building_blocks.pairwise_costs import (
    depth_in_boxes,
    depth_in_centers,
    log_probabilities,
    of_labels,
)
from harness.assigners.building_blocks.usable_predictions import Predicted, read_predictions
from harness.core import limits
from harness.core.boxes import pairwise_iou
from harness.core.chunking import MEMORY_BOUND, by_images
from harness.core.structures import NEGATIVE, Assignment, Candidates, GroundTruth, Need

_OUTSIDE = 1e6  # the cost of a pair outside the object's center region: a price, not an exclusion
_IOU_EPS = torch.finfo(torch.float32).eps
_LOG_EPS = 1e-8  # added to supplies and demands before their logarithm
BYTES_PER_PAIR = 20


class OTAAssigner:
    """Optimal transport assignment (Ge et al. 2021, algorithm 1).

    An object supplies as many labels as its ``top_candidates`` best IoUs inside its center region sum up to, rounded
    down, at least one; the background supplies the rest; every candidate demands one. The cost of a pair is
    ``focal(scores, label) + reg_weight * (- log IoU)``, plus a price of 1e6 outside the region. The plan of least cost
    is found by a fixed number of Sinkhorn iterations in log space, on the device. Each supplier's row of it is divided
    by its maximum, and a candidate goes to the supplier with the largest share.

    Args:
        center_radius: half the side of the square around a center, in strides, cut by the box.
        top_candidates: how many IoUs are summed to an object's supply.
        reg_weight: of the regression cost.
        focal_alpha: weight of the positive class in the focal loss.
        focal_gamma: its exponent.
        sinkhorn_eps: weight of the entropy.
        sinkhorn_iter: iterations.
        memory_bound: bytes that the pairwise tensors may take at once.

    Raises:
        ValueError: a parameter is out of range; on call, candidates without predictions or strides.

    A candidate whose prediction is not finite is served by the background. Computes in float32. Where objects supply
    more labels than there are candidates, the background supplies none.
    """

    needs: frozenset[Need] = frozenset({Need.PREDICTIONS, Need.STRIDES})

    def __init__(
        self,
        center_radius: float = 2.5,
        top_candidates: int = 20,
        reg_weight: float = 1.5,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        sinkhorn_eps: float = 0.1,
        sinkhorn_iter: int = 50,
        memory_bound: int = MEMORY_BOUND,
    ) -> None:
        self.center_radius = limits.above("center_radius", center_radius, 0)
        self.top_candidates = limits.count("top_candidates", top_candidates, 1)
        self.reg_weight = limits.at_least("reg_weight", reg_weight, 0)
        self.focal_alpha = limits.between("focal_alpha", focal_alpha, 0, 1)
        self.focal_gamma = limits.at_least("focal_gamma", focal_gamma, 0)
        self.sinkhorn_eps = limits.above("sinkhorn_eps", sinkhorn_eps, 0)
        self.sinkhorn_iter = limits.count("sinkhorn_iter", sinkhorn_iter, 1)
        self.memory_bound = limits.above("memory_bound", memory_bound, 0)

    def __call__(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        """``(*, G)`` objects and ``(*, N)`` candidates to a ``(*, N)`` assignment."""
        truth, candidates = clean(truth, candidates)
        return by_images(self._assign, truth, candidates, bytes_per_pair=BYTES_PER_PAIR, memory_bound=self.memory_bound)

    def cost(self, truth: GroundTruth, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """``(*, 1 + G, N)`` cost of the background (first) and of every object, infinite for pairs that must not be;
        and the ``(*, G, N)`` IoU of the predictions inside each object's center region, 0 elsewhere.

        The background stands first so that padded objects, behind the real ones, leave every sum as it is.
        """
        predicted = read_predictions(candidates, "OTAAssigner")
        outside = self._outside(truth, candidates)
        possible = truth.matchable.unsqueeze(-1) & predicted.usable.unsqueeze(-2)
        iou = pairwise_iou(truth.boxes.float(), predicted.boxes).clamp_(max=1)
        background, cost = self._classification(predicted, truth.labels)
        cost.add_(iou.clamp(min=_IOU_EPS).log_(), alpha=-self.reg_weight).add_(outside, alpha=_OUTSIDE)
        cost = torch.where(possible, cost, torch.inf)
        background = torch.where(candidates.valid, background, torch.inf).unsqueeze(-2)
        return torch.cat((background, cost), -2), iou.mul_(possible & ~outside)

    def supply(self, iou: Tensor, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, 1 + G)`` labels that the background (first) and every object supply; whole numbers.

        Args:
            iou: ``(*, G, N)`` of the predictions inside each object's center region.
            truth: the objects; those that cannot be matched supply nothing.
            candidates: each that is not padded demands one.
        """
        top = iou.topk(min(self.top_candidates, iou.shape[-1])).values
        objects = top.sum(-1).floor().clamp(min=1) * truth.matchable
        demand = candidates.valid.sum(-1, keepdim=True)
        return torch.cat(((demand - objects.sum(-1, keepdim=True)).clamp(min=0), objects), -1)

    def plan(self, supply: Tensor, cost: Tensor) -> Tensor:
        """``(*, 1 + G, N)`` transport plan, each supplier's row divided by its maximum: in [0, 1].

        Args:
            supply: ``(*, 1 + G)``.
            cost: ``(*, 1 + G, N)``; infinite rows and columns take no part.
        """
        log_supply = (supply + _LOG_EPS).log()
        log_demand = torch.full((), _LOG_EPS, device=cost.device).log1p()
        u, v = torch.ones_like(supply), cost.new_ones((*cost.shape[:-2], cost.shape[-1]))
        for _ in range(self.sinkhorn_iter):
            v = _finite(self.sinkhorn_eps * (log_demand - self._exponent(cost, u, v).logsumexp(-2)) + v)
            u = _finite(self.sinkhorn_eps * (log_supply - self._exponent(cost, u, v).logsumexp(-1)) + u)
        exponent = self._exponent(cost, u, v)
        best = _finite(exponent.amax(-1, keepdim=True))
        return exponent.sub_(best).exp_()

    def _assign(self, truth: GroundTruth, candidates: Candidates) -> Assignment:
        max_iou = overlaps(truth, candidates, memory_bound=self.memory_bound).iou
        if truth.labels.shape[-1] == 0 or candidates.valid.shape[-1] == 0:
            nothing = torch.full_like(candidates.valid, NEGATIVE, dtype=torch.int64)
            return settle(nothing, max_iou, candidates.valid)
        cost, iou = self.cost(truth, candidates)
        plan = self.plan(self.supply(iou, truth, candidates), cost)
        background, objects = plan[..., 0, :], plan[..., 1:, :]
        gt_index = torch.where(objects.amax(-2) >= background, highest_object(objects), NEGATIVE)
        gt_index = torch.where(cost[..., 1:, :].isfinite().any(-2), gt_index, NEGATIVE)
        return settle(gt_index, max_iou, candidates.valid)

    def _exponent(self, cost: Tensor, u: Tensor, v: Tensor) -> Tensor:
        # In the order of the public implementation: at a cost of 1e6 float32 has four digits after the exponent's point
        # only, so another order is another plan for an object that has no candidate in its region.
        return cost.neg().add_(u.unsqueeze(-1)).add_(v.unsqueeze(-2)).div_(self.sinkhorn_eps)

    def _outside(self, truth: GroundTruth, candidates: Candidates) -> Tensor:
        """``(*, G, N)`` bool: the candidate's center is not both in the box, by 0.01 px, and near its center."""
        centers, boxes, matchable = candidates.centers.float(), truth.boxes.float(), truth.matchable
        radius = candidates.strides_for("OTAAssigner").float() * self.center_radius
        near = depth_in_centers(centers, boxes, matchable, radius) > 0
        return ~(near & (depth_in_boxes(centers, boxes, matchable) > 0.01))

    def _classification(self, predicted: Predicted, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Focal losses: ``(*, N)`` of the candidate as background, ``(*, G, N)`` as the object's class.

        Only the term of the object's own class depends on the object, so no ``(G, N, K)`` tensor is built.
        """
        on, off = log_probabilities(predicted.scores)
        negative = off * predicted.scores.pow(self.focal_gamma) * (self.focal_alpha - 1)
        positive = on * (1 - predicted.scores).pow(self.focal_gamma) * -self.focal_alpha
        background = negative.sum(-1)
        return background, of_labels(positive - negative, labels).add_(background.unsqueeze(-2))


def _finite(values: Tensor) -> Tensor:
    """A supplier or candidate that takes no part has nothing to balance."""
    return torch.where(values.isfinite(), values, 0)
