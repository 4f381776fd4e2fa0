"""The images of an epoch, from the weights of an image sampler."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.streams import derive_seed


def epoch_order(num_images: int, seed: int, epoch: int, weights: Tensor | None = None) -> Tensor:
    """``(N,)`` int64: the images of an epoch in their order, a pure function of the arguments.

    Without weights a permutation. With weights, an image is seen ``N weight / (sum of the weights)`` times, rounded up
    or down at random so that the mean is exact (systematic sampling, Madow 1949): less scatter than independent draws.

    Args:
        num_images: ``N``, >= 1.
        seed: of the data stream.
        epoch: >= 0.
        weights: ``(N,)`` float64 >= 0, not all of them 0.

    Raises:
        ValueError: the weights are negative, not finite or all 0.
    """
    stream = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    permutation = torch.randperm(num_images, generator=stream)
    if weights is None:
        return permutation
    total = weights.sum()
    if not (torch.isfinite(total) and total > 0 and (weights >= 0).all()):
        raise ValueError("the weights of the images must be finite numbers of at least 0, not all of them 0")
    ends = (weights[permutation] / total * num_images).cumsum(0)
    ticks = torch.arange(num_images) + torch.rand(1, dtype=torch.float64, generator=stream)
    chosen = permutation[torch.searchsorted(ends, ticks, right=True).clamp(max=num_images - 1)]
    return chosen[torch.randperm(num_images, generator=stream)]


def turns(order: Tensor) -> Tensor:
    """``(N,)`` int64: how many times the image at each place was seen before in the same epoch."""
    by_image = order.argsort(stable=True)
    counts = torch.bincount(order, minlength=1)
    first = (counts.cumsum(0) - counts)[order[by_image]]
    return torch.empty_like(order).scatter_(0, by_image, torch.arange(len(order)) - first)
