"""MPDIoU: overlap less the distances of the two corners, in units of the image's diagonal."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.core import limits
from harness.core.boxes import aligned_iou
from harness.core.structures import Need
from harness.losses.interface import RegressionLoss, Space


class MPDIoULoss(RegressionLoss):
    """``1 - IoU + (d1^2 + d2^2) / (height^2 + width^2)`` (Ma and Xu 2023, "MPDIoU", eq. 7 to 13).

    ``d1`` and ``d2`` are the distances between the top left and between the bottom right corners, ``height`` and
    ``width`` the size of the image that the detector sees, without padding; px.

    Args:
        eps: lower bound of the union, px^2, > 0.

    Raises:
        ValueError: ``eps`` not above 0.
    """

    space: ClassVar[Space] = Space.BOXES
    needs: frozenset[Need] = frozenset({Need.IMAGE_SIZE})

    def __init__(self, eps: float = 1e-7) -> None:
        super().__init__()
        self.eps = limits.above("eps", eps, 0)

    def elementwise(
        self, prediction: Tensor, target: Tensor, *, weight: Tensor | None = None, image_size: Tensor | None = None
    ) -> Tensor:
        """``(*, S)``; ``image_size (*, S, 2)`` is (height, width) of each box's image, px.

        Raises:
            ValueError: no image size is given.
        """
        if image_size is None:
            raise ValueError("MPDIoULoss needs image_size, the height and width of each box's image; none was given")
        corners = (prediction - target).square().sum(-1)
        return 1 - aligned_iou(prediction, target, self.eps) + corners / image_size.square().sum(-1).clamp(min=1)
