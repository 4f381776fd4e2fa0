"""Absolute difference of boxes, relative to the image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness.core.structures import Need
from harness.losses.interface import RegressionLoss, Space


class ImageL1Loss(RegressionLoss):
    """``|prediction - target|`` of each side, over the width or the height of the image.

    The mean over the sides is what Ultralytics trains where a head has no distribution over bins (``reg_max=1``).
    """

    space: ClassVar[Space] = Space.BOXES
    needs: frozenset[Need] = frozenset({Need.IMAGE_SIZE})

    def elementwise(
        self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None, image_size: Tensor | None = None
    ) -> Tensor:
        """``(*, S, 4)``; ``image_size (*, S, 2)`` height and width, px."""
        assert image_size is not None
        height, width = image_size.unbind(-1)
        return (prediction - target).abs() / torch.stack((width, height, width, height), -1)
