"""Random streams that depend on what they are for, and on nothing that happened before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str, *position: int) -> int:
    """A seed (63 bits) of its own for every (seed, purpose, position), the same on every machine."""
    text = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


@contextmanager
def cpu_stream(seed: int) -> Iterator[None]:
    """Within the block torch's global CPU generator starts at ``seed``; afterwards it stands where it stood.

    torchvision's transforms draw from that generator only. Not ``torch.manual_seed``: that one would reseed the
    generators of all accelerators as well, and with them the sampling noise of the step.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
