"""Random numbers that are a function of a seed and of their place, and of nothing around them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.core.processes import process_count, process_rank

HIGHEST_SEED = 2**62


def image_noise(shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Uniform numbers in [0, 1) for the ``N`` candidates of each of ``B`` images: multiples of 2^-24, as torch draws.

    One seed is drawn for each image of the whole batch, which may be spread over several processes with equally many
    images each; a number is a function of the image's seed and the candidate's index. So the number of candidates of
    other images changes nothing, nor does the number of processes, and the generator advances equally in all of them.

    Args:
        shape: ``(B, N)``, of this process.
        device: of the result.
        generator: the stream, in the same state in every process; may live on another device. ``None``: torch's own.
    """
    images, candidates = shape
    total = (images * process_count(),)
    if generator is None:  # without the argument, so that torch.compile can trace it
        seeds = torch.randint(HIGHEST_SEED, total, device=device)
    else:
        seeds = torch.randint(HIGHEST_SEED, total, generator=generator, device=generator.device)
        seeds = seeds.to(device, non_blocking=True)
    first = process_rank() * images
    own = seeds[first : first + images]
    bits = split_mix(own.unsqueeze(1) + torch.arange(candidates, device=device))
    return shifted_right(bits, 40).to(torch.float32) / 2**24


def split_mix(values: Tensor) -> Tensor:
    """The mixing function of SplitMix64 (Steele et al. 2014) on int64 numbers, which wrap around."""
    values = values + -7046029254386353131
    values = (values ^ shifted_right(values, 30)) * -4658895280553007687
    values = (values ^ shifted_right(values, 27)) * -7723592293110705685
    return values ^ shifted_right(values, 31)


def shifted_right(values: Tensor, bits: int) -> Tensor:
    """``values`` shifted by ``bits`` to the right, filled up with zeros whatever the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
