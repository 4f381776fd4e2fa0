"""Keeps the pairwise ``(B, G, N)`` work of an assigner within a bound, with the same result.

An assigner compares every object with every candidate. 200,000 anchors x 100 objects x 16 images are 320 million pairs,
1.3 GB for every float that it keeps of a pair. Images do not depend on each other, so the batch is cut into groups of
images; a method whose answer over objects is a running one (a maximum) may cut the objects of an image as well.

How large a group may be follows from ``bytes_per_pair``: all that is alive of a pair at the peak of the method's work,
what it keeps and what the expressions leave behind for a moment, 4 bytes for every float32 and 1 for every bool. What
grows with objects or candidates alone does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.core.structures import Assignment, Candidates, GroundTruth

MEMORY_BOUND = 2**30  # bytes, the default of every assigner

# On a CPU what leaves the cache is slow, and a large fresh tensor costs more in page faults than in arithmetic: IoU and
# its maxima of 200,000 x 100 pairs take 560 ms at once and 90 ms in pieces of this size. A compiler fuses instead.
CPU_BOUND = 2**24

T = TypeVar("T")

_SHARED = frozenset({"level", "stride"})  # (N,): one for all images


def by_images(
    assign: Callable[..., Assignment],
    truth: GroundTruth,
    candidates: Candidates,
    *more: Any,
    bytes_per_pair: int,
    memory_bound: int,
) -> Assignment:
    """``assign(truth, candidates, *more)`` on as many images at a time as the bound allows, at least one.

    Args:
        assign: takes and returns the same leading dimensions, none or one of them.
        truth: ``(*, G)`` objects.
        candidates: ``(*, N)`` candidates.
        more: further dataclasses of ``(*, ...)`` tensors that ``assign`` takes (a proposed assignment, losses).
        bytes_per_pair: of ``assign`` at its peak; see above.
        memory_bound: bytes for all pairs that are worked on at once.
    """
    leading = truth.valid.dim() - 1
    images, objects, count = _sizes(truth, candidates)
    memory_bound = _device_bound(memory_bound, truth.valid.device)
    if leading == 0 or images * objects * count * bytes_per_pair <= memory_bound:
        return assign(truth, candidates, *more)
    inputs = tuple(_map(value, lambda t: t.flatten(0, leading - 1)) for value in (truth, candidates, *more))
    step = max(1, int(memory_bound // (objects * count * bytes_per_pair)))
    parts = [assign(*(_part(value, start, step) for value in inputs)) for start in range(0, images, step)]
    shape = truth.valid.shape[:-1]
    quality = [part.quality for part in parts if part.quality is not None]
    return Assignment(
        gt_index=torch.cat([part.gt_index for part in parts]).unflatten(0, shape),
        max_iou=torch.cat([part.max_iou for part in parts]).unflatten(0, shape),
        quality=torch.cat(quality).unflatten(0, shape) if quality else None,
    )


def by_objects(
    truth: GroundTruth, candidates: Candidates, *, bytes_per_pair: int, memory_bound: int
) -> Iterator[tuple[int, GroundTruth]]:
    """Groups of objects so that the pairs of one group stay within the bound: the first one's number, and the objects.

    At least one object a group; no group at all where there is no pair.
    """
    images, objects, count = _sizes(truth, candidates)
    memory_bound = _device_bound(memory_bound, truth.valid.device)
    if objects == 0 or count == 0:
        return
    if images * objects * count * bytes_per_pair <= memory_bound:
        yield 0, truth
        return
    step = max(1, int(memory_bound // (images * count * bytes_per_pair)))
    for start in range(0, objects, step):
        part = slice(start, start + step)
        yield (
            start,
            GroundTruth(
                truth.boxes[..., part, :], truth.labels[..., part], truth.valid[..., part], truth.crowd[..., part]
            ),
        )


def _device_bound(memory_bound: int, device: torch.device) -> int:
    if device.type != "cpu" or torch.compiler.is_compiling():
        return memory_bound
    return min(memory_bound, CPU_BOUND)


def _sizes(truth: GroundTruth, candidates: Candidates) -> tuple[int, int, int]:
    images = 1
    for size in truth.valid.shape[:-1]:
        images *= size
    return images, truth.valid.shape[-1], candidates.valid.shape[-1]


def _part(value: T, start: int, step: int) -> T:
    return _map(value, lambda t: t[start : start + step])


def _map(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """``value`` with ``function`` applied to every tensor in it that has the leading dimensions of the batch."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes: dict[str, Any] = {}
    for field in fields(value):
        entry = getattr(value, field.name)
        if field.name in _SHARED:
            continue
        changes[field.name] = function(entry) if isinstance(entry, Tensor) else _map(entry, function)
    return replace(value, **changes)
