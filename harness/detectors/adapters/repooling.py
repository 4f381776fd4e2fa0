"""The pooled features of a ranking pass: computed fast, and kept for the boxes that train, with their usual gradient.

On a CPU, torchvision's RoIAlign costs about twice what the first layer of the box head costs (2,000 boxes, 256
channels, 7 x 7 bins), so that pooling is a good part of the price of OHEM. The ranking pass, which needs no gradient,
therefore sums weighted rows (:mod:`harness.detectors.networks.roi_align_by_rows`), and the chosen boxes are not pooled
again: the loss that ranks and the loss that trains are of the same features. These are torchvision's up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import MultiScaleRoIAlign

from harness.core.structures import SamplingResult
from harness.detectors.networks.roi_align_by_rows import roi_align_by_rows


@dataclass(frozen=True)
class Pooled:
    """What a ranking pass has left of a batch's candidates; rows are those that were used, image by image."""

    values: Tensor  # (n, C, h, w)
    used: Tensor  # (B, N) bool
    hidden: Tensor | None = None  # (n, D), what the first layer of the box head made of them

    def of(self, sample: SamplingResult) -> tuple[Tensor, Tensor | None]:
        """``values`` and ``hidden`` of the used slots of ``sample``, image by image."""
        row = (self.used.flatten().cumsum(0) - 1).view(self.used.shape)
        chosen = sample.take(row)[sample.used]
        return self.values[chosen], None if self.hidden is None else self.hidden[chosen]


def can_repool(pool: nn.Module, features: dict[str, Tensor]) -> bool:
    """Whether :func:`pooled_once` and :func:`repooled` stand for ``pool``, and save time.

    They know torchvision's pooling alone, without hooks that could change its result. Autocast would round on the way,
    and a GPU pools faster than it looks up.
    """
    plain = all(not level.is_cuda and level.dtype in (torch.float32, torch.float64) for level in features.values())
    own = type(pool) is MultiScaleRoIAlign and not pool._forward_hooks
    return own and plain and not torch.is_autocast_enabled("cpu")


def pooled_once(
    pool: MultiScaleRoIAlign,
    features: dict[str, Tensor],
    boxes: Sequence[Tensor],
    image_shapes: list[tuple[int, int]],
) -> Tensor:
    """``pool(features, boxes, image_shapes)`` without gradient: up to rounding, and in about a fifth of the time.

    A number of points that follows the size of the box (``sampling_ratio <= 0``) is left to ``pool`` itself.

    Args:
        pool: torchvision's.
        features: by level, ``(B, C, H, W)``.
        boxes: ``(n_i, 4)`` of each image, xyxy px.
        image_shapes: height and width of each image, px.

    Returns:
        ``(sum of n_i, C, h, w)``.
    """
    if pool.sampling_ratio <= 0 or len(pool.output_size) != 2:
        return cast(Tensor, pool(features, boxes, image_shapes))
    # Derives the scales at the first call; runs the hooks, by which processes agree on the shapes, at every call.
    pool(features, [image[:0] for image in boxes], image_shapes)
    assert pool.scales is not None
    maps, level = _maps(pool, features), _levels(pool, boxes)
    return roi_align_by_rows(maps, pool.scales, _rois(boxes), level, pool.output_size, pool.sampling_ratio)


def repooled(pool: MultiScaleRoIAlign, features: dict[str, Tensor], boxes: Sequence[Tensor], known: Tensor) -> Tensor:
    """``known``, as the result of ``pool(features, boxes, ...)``, without computing it.

    Args:
        pool: has pooled these features before.
        features: by level, ``(B, C, H, W)``.
        boxes: ``(n_i, 4)`` of each image, xyxy px.
        known: ``(sum of n_i, C, h, w)``, what ``pool`` gives for them.
    """
    pooled: Tensor = _Repooled.apply(
        known, _rois(boxes), _levels(pool, boxes), pool.scales, pool.sampling_ratio, *_maps(pool, features)
    )
    return pooled


def _rois(boxes: Sequence[Tensor]) -> Tensor:
    """``(n, 5)``: the number of the image and the box."""
    image = torch.cat([torch.full_like(rows[:, :1], place) for place, rows in enumerate(boxes)])
    return torch.cat((image, torch.cat(list(boxes))), 1)


def _levels(pool: MultiScaleRoIAlign, boxes: Sequence[Tensor]) -> Tensor:
    """``(n,)``, which of the maps pools each box."""
    assert pool.map_levels is not None
    assert pool.scales is not None
    levels: Tensor = pool.map_levels(list(boxes))
    return levels if len(pool.scales) > 1 else torch.zeros_like(levels)


def _maps(pool: MultiScaleRoIAlign, features: dict[str, Tensor]) -> list[Tensor]:
    """The maps that ``pool`` pools, in the order of its scales."""
    return [level for name, level in features.items() if name in pool.featmap_names]


class _Repooled(torch.autograd.Function):
    """The gradient of :class:`MultiScaleRoIAlign`, level by level, for values that are given."""

    @staticmethod
    def forward(
        context: Any, known: Tensor, rois: Tensor, level: Tensor, scales: list[float], ratio: int, *features: Tensor
    ) -> Tensor:
        context.save_for_backward(rois, level)
        context.scales, context.ratio, context.shapes = scales, ratio, [one.shape for one in features]
        return known.clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rois, level = context.saved_tensors
        found: list[Tensor | None] = []
        for place, (scale, shape) in enumerate(zip(context.scales, context.shapes, strict=True)):
            here = torch.where(level == place)[0]
            found.append(
                torch.ops.torchvision._roi_align_backward(
                    gradient[here], rois[here], scale, *gradient.shape[-2:], *shape, context.ratio, False
                )
                if context.needs_input_grad[5 + place]
                else None
            )
        return (None, None, None, None, None, *found)
