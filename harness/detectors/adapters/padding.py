"""Images padded alike in all processes of a training: an image's company does not depend on the process."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from harness.core.processes import reduce_max
from harness.detectors.adapters.mixing import mixed, replace_module


class SharedPadding(GeneralizedRCNNTransform):
    """Pads the images of a training step to the largest image of the whole batch, over all processes."""

    def max_by_axis(self, the_list: list[list[int]]) -> list[int]:
        largest: list[int] = super().max_by_axis(the_list)
        return reduce_max(largest) if self.training else largest


def share_padding(model: nn.Module) -> None:
    """Lets ``model``, a torchvision-style detector, pad as :class:`SharedPadding` does."""
    transform = model.get_submodule("transform")
    replace_module(model, "transform", mixed(transform, SharedPadding))
