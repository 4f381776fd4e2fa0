"""Pooled features that a ranking pass has left: taken as they are for the boxes that train, with their usual gradient.

On a CPU, RoIAlign costs about twice what the first layer of the box head costs (2,000 boxes, 256 channels, 7 x 7 bins),
so that pooling the chosen boxes a second time is a good part of the price of OHEM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import MultiScaleRoIAlign

from harness.core.structures import SamplingResult


@dataclass(frozen=True)
class Pooled:
    """What was pooled of a batch's candidates."""

    values: Tensor  # (n, C, h, w), of the boxes that were used, image by image
    used: Tensor  # (B, N) bool

    def of(self, sample: SamplingResult) -> Tensor:
        """``(m, C, h, w)`` of the used slots of ``sample``, image by image."""
        row = (self.used.flatten().cumsum(0) - 1).view(self.used.shape)
        return self.values[sample.take(row)[sample.used]]


def can_repool(pool: nn.Module, features: dict[str, Tensor]) -> bool:
    """Whether :func:`repooled` gives what ``pool`` would give, bit for bit, and saves time.

    It knows torchvision's pooling alone; autocast would round on the way, and a GPU pools faster than it looks up.
    """
    plain = all(not level.is_cuda and level.dtype in (torch.float32, torch.float64) for level in features.values())
    return type(pool) is MultiScaleRoIAlign and plain and not torch.is_autocast_enabled("cpu")


def repooled(pool: MultiScaleRoIAlign, features: dict[str, Tensor], boxes: Sequence[Tensor], known: Tensor) -> Tensor:
    """``known``, as the result of ``pool(features, boxes, ...)``, without computing it.

    Args:
        pool: has pooled these features before.
        features: by level, ``(B, C, H, W)``.
        boxes: ``(n_i, 4)`` of each image, xyxy px.
        known: ``(sum of n_i, C, h, w)``, what ``pool`` gives for them.
    """
    assert pool.scales is not None
    assert pool.map_levels is not None
    image = torch.cat([torch.full_like(rows[:, :1], place) for place, rows in enumerate(boxes)])
    level = pool.map_levels(list(boxes))
    used = [features[name] for name in pool.featmap_names if name in features]
    pooled: Tensor = _Repooled.apply(
        known, torch.cat((image, torch.cat(list(boxes))), 1), level, pool.scales, pool.sampling_ratio, *used
    )
    return pooled


class _Repooled(torch.autograd.Function):
    """The gradient of :class:`MultiScaleRoIAlign`, level by level, for values that are given."""

    @staticmethod
    def forward(
        context: Any, known: Tensor, rois: Tensor, level: Tensor, scales: list[float], ratio: int, *features: Tensor
    ) -> Tensor:
        context.save_for_backward(rois, level)
        context.scales, context.ratio, context.shapes = scales, ratio, [one.shape for one in features]
        context.single = len(features) == 1
        return known.clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rois, level = context.saved_tensors
        found: list[Tensor | None] = []
        for place, (scale, shape) in enumerate(zip(context.scales, context.shapes, strict=True)):
            here = slice(None) if context.single else torch.where(level == place)[0]
            found.append(
                torch.ops.torchvision._roi_align_backward(
                    gradient[here], rois[here], scale, *gradient.shape[-2:], *shape, context.ratio, False
                )
                if context.needs_input_grad[5 + place]
                else None
            )
        return (None, None, None, None, None, *found)
