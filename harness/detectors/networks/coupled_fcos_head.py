"""An FCOS head with one tower for classes and boxes, as the detectors before it had.

FCOS's own head is decoupled; the pair lets the first step of the YOLOX report (Ge et al. 2021, table 1: what decoupling
is worth) be taken on FCOS, too.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead


class CoupledFCOSHead(FCOSHead):
    """torchvision's head whose two towers are one: the regression tower's place, a fresh tower for both.

    Args:
        in_channels: of every level.
        num_anchors: 1 in FCOS.
        num_classes: K + 1.
        num_convs: of the tower.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_classes: int, num_convs: int = 4) -> None:
        super().__init__(in_channels, num_anchors, num_classes, num_convs)
        self.tower = self.regression_head.conv
        self.regression_head.conv = nn.Identity()
        self.classification_head.conv = nn.Identity()

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Levels ``(B, C, H, W)`` to the same three tensors as torchvision's head."""
        outputs: dict[str, Tensor] = super().forward([self.tower(feature) for feature in x])
        return outputs
