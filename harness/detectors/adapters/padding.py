"""Images padded and pooled alike in all processes of a training: an image's company does not depend on the process."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from harness.core.processes import reduce_max
from harness.detectors.adapters.mixing import mixed, replace_module


class SharedPadding(GeneralizedRCNNTransform):
    """Pads the images of a training step to the largest image of the whole batch, over all processes."""

    def max_by_axis(self, the_list: list[list[int]]) -> list[int]:
        largest: list[int] = super().max_by_axis(the_list)
        return reduce_max(largest) if self.training else largest


def share_padding(model: nn.Module) -> None:
    """Lets ``model``, a torchvision-style detector, pad and pool as one process would that has the whole batch."""
    transform = model.get_submodule("transform")
    replace_module(model, "transform", mixed(transform, SharedPadding))
    for module in model.modules():
        if isinstance(module, MultiScaleRoIAlign):
            module.register_forward_pre_hook(_with_largest_shape)


def _with_largest_shape(pool: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """RoIAlign takes the scale of a feature map from the largest of the images: in training, of all processes."""
    if not pool.training:
        return None
    features, boxes, image_shapes = inputs
    largest = reduce_max([max(sides) for sides in zip(*image_shapes, strict=True)])
    return features, boxes, [*image_shapes, tuple(largest)]
