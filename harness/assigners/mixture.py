"""Two Gaussians through the losses of each object, by expectation maximisation, all objects at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COVARIANCE_TYPES = ("diag", "full", "spherical", "tied")


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture, read at its own samples."""

    log_likelihood: Tensor  # (*, S) of every sample; 0 where masked
    first: Tensor  # (*, S) bool: the first component, the one that started at the lowest value, is the likelier one


def fit_mixture(
    values: Tensor, mask: Tensor, *, covariance_type: str, tol: float, reg_covar: float, max_iter: int
) -> Mixture:
    """Fits two one-dimensional Gaussians to each row of ``values (*, S)``, where ``mask``.

    They start at the row's lowest and highest value with weight 1/2 and variance 1. A row stops when its mean
    log-likelihood changes by less than ``tol``, as if it were alone: later steps leave it as it is. So a row's answer
    does not depend on the other rows, the number of operations is fixed, and nothing waits for the device.

    Args:
        values: finite where ``mask``.
        mask: ``(*, S)`` bool.
        covariance_type: ``tied`` gives both components one variance; the other names of scikit-learn are the same thing
            in one dimension.
        tol: of the mean log-likelihood.
        reg_covar: added to every variance.
        max_iter: the most steps.
    """
    # The variance is a difference of squares; in float32 it would be noise for a tight cluster of losses.
    x = torch.where(mask, values, 0).double().unsqueeze(-2)
    member = mask.unsqueeze(-2)
    count = member.sum(-1).clamp(min=1)
    lowest = x.masked_fill(~member, torch.inf).amin(-1)
    highest = x.masked_fill(~member, -torch.inf).amax(-1)
    mean = torch.cat((lowest, highest), -1)
    mean = torch.where(mean.isfinite(), mean, 0)
    weight, variance = torch.full_like(mean, 0.5), torch.ones_like(mean)
    previous = torch.full_like(lowest, -torch.inf)
    running = torch.ones_like(previous, dtype=torch.bool)
    for _ in range(max_iter):
        joint = _log_joint(x, weight, mean, variance)
        evidence = joint.logsumexp(-2, keepdim=True)
        share = (joint - evidence).exp_().mul_(member)
        mass = share.sum(-1) + 10 * torch.finfo(x.dtype).eps
        new_mean = (share * x).sum(-1) / mass
        second = (share * x * x).sum(-1)
        if covariance_type == "tied":
            total = mass.sum(-1, keepdim=True)
            new_variance = ((second.sum(-1, keepdim=True) - (mass * new_mean**2).sum(-1, keepdim=True)) / total).expand(
                mass.shape
            )
        else:
            new_variance = second / mass - new_mean**2
        weight = torch.where(running, mass / mass.sum(-1, keepdim=True), weight)
        mean = torch.where(running, new_mean, mean)
        variance = torch.where(running, new_variance.clamp(min=0) + reg_covar, variance)
        likelihood = (evidence * member).sum(-1) / count
        running = running & ~((likelihood - previous).abs() < tol)
        previous = likelihood
    joint = _log_joint(x, weight, mean, variance)
    return Mixture(
        log_likelihood=torch.where(mask, joint.logsumexp(-2), 0),
        first=(joint[..., 0, :] >= joint[..., 1, :]) & mask,
    )


def _log_joint(x: Tensor, weight: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """``(*, 2, S)`` log of weight times density."""
    constant = weight.log() - 0.5 * (variance.log() + math.log(2 * math.pi))
    return constant.unsqueeze(-1) - 0.5 * (x - mean.unsqueeze(-1)).square() / variance.unsqueeze(-1)
