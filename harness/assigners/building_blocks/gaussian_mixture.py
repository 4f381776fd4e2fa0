"""Two Gaussians through the losses of each object, by expectation maximization, all objects at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.core.precision import double_precision

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
    # The variance is a difference of squares; in float32 it would be noise for a tight cluster of losses. Yet where
    # scikit-learn squares the values in their own precision, so do we: beside a reg_covar of 1e-6 that rounding decides
    # what becomes of a component with one sample.
    values = torch.where(mask, values, 0)
    x, member = double_precision(values), double_precision(mask)
    square = double_precision(values * values) if covariance_type in ("diag", "spherical") else x * x
    powers = torch.stack((member, x, square), -2)
    count = member.sum(-1, keepdim=True).clamp(min=1)
    parameters = _start(x, mask)
    likelihood = torch.full_like(count, -torch.inf)
    running = torch.ones_like(count, dtype=torch.bool)
    for _ in range(max_iter):
        joint = parameters @ powers
        moments = joint.softmax(-2) @ powers.mT
        previous, likelihood = likelihood, (joint.logsumexp(-2) * member).sum(-1, keepdim=True) / count
        step = _maximized(moments, reg_covar, tied=covariance_type == "tied")
        parameters = torch.where(running.unsqueeze(-1), step, parameters)
        running = running & ~((likelihood - previous).abs() < tol)
    joint = parameters @ powers
    return Mixture(joint.logsumexp(-2) * member, (joint[..., 0, :] >= joint[..., 1, :]) & mask)


def _start(x: Tensor, mask: Tensor) -> Tensor:
    """``(*, 2, 3)`` parameters of the components at the lowest and the highest value, 0 where there is none."""
    lowest = x.masked_fill(~mask, torch.inf).amin(-1)
    highest = x.masked_fill(~mask, -torch.inf).amax(-1)
    mean = torch.stack((lowest, highest), -1).masked_fill(~mask.any(-1, keepdim=True), 0)
    return _parameters(torch.full_like(mean, 0.5), mean, torch.ones_like(mean))


def _maximized(moments: Tensor, reg_covar: float, tied: bool) -> Tensor:
    """``(*, 2, 3)`` parameters for the mass, sum and sum of squares ``(*, 2, 3)`` that each component has."""
    mass, first, second = moments.unbind(-1)
    mass = mass + 10 * torch.finfo(mass.dtype).eps
    total = mass.sum(-1, keepdim=True)
    mean = first / mass
    if tied:
        variance = (second.sum(-1, keepdim=True) - (mass * mean * mean).sum(-1, keepdim=True)) / total
    else:
        variance = second / mass - mean * mean
    return _parameters(mass / total, mean, (variance + reg_covar).clamp(min=1e-3 * reg_covar))


def _parameters(weight: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """``(*, 2, 3)``: the log of weight times density as a polynomial of the value, constant term first."""
    precision = 1 / variance
    constant = weight.log() + 0.5 * (precision.log() - mean * mean * precision - math.log(2 * math.pi))
    return torch.stack(torch.broadcast_tensors(constant, mean * precision, -0.5 * precision), -1)
