"""A box head for dense detectors: deltas, distances or distributions of them; a branch that rates the box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

START = 2.0  # strides from the point to each side of its box, before training
LONGEST = math.log(1000.0)  # of the logarithm of a distance in strides


class DenseBoxHead(nn.Module):
    """Predictors on a tower of convolutions.

    Args:
        tower: the convolutions, of the regression head of a torchvision detector.
        in_channels: of what the tower returns.
        num_anchors: per cell.
        regression: ``deltas``; ``distances``: the exponential of the prediction, in strides (VarifocalNet, RTMDet),
            which begins at 2 strides (there at 8 and at 1); ``distribution``: logits of ``bins`` distances 0, 1, ...
            strides a side (GFL).
        bins: of a distribution.
        branch: whether one logit per box rates it.
        refinement: whether a second, refined box is predicted: the first one's distances, detached, times the
            exponential of a further prediction (VarifocalNet, Zhang 2021, section 3.4, without the star-shaped
            features of section 3.3).
    """

    def __init__(
        self,
        tower: nn.Module,
        in_channels: int,
        num_anchors: int,
        *,
        regression: str = "deltas",
        bins: int = 0,
        branch: bool = False,
        refinement: bool = False,
    ) -> None:
        super().__init__()
        self.regression = regression
        self.columns = 4 * (bins if regression == "distribution" else 1)
        self.conv = tower

        def predictor(columns: int, bias: float = 0.0) -> nn.Conv2d:
            layer = nn.Conv2d(in_channels, num_anchors * columns, 3, padding=1)
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)
            return layer

        self.bbox_reg = predictor(self.columns, math.log(START) if regression == "distances" else 0.0)
        self.bbox_branch = predictor(1) if branch else None
        self.bbox_refine = predictor(4) if refinement else None

    def forward(self, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        """``(B, C, H, W)`` levels to ``bbox_regression (B, N, columns)`` and, where there are, ``branch (B, N)`` and
        ``bbox_refined (B, N, 4)``."""
        towers = [self.conv(level) for level in levels]
        boxes = in_a_row([self.bbox_reg(tower) for tower in towers], self.columns)
        if self.regression == "distances":
            boxes = boxes.clamp(max=LONGEST).exp()
        found = {"bbox_regression": boxes}
        if self.bbox_branch is not None:
            found["branch"] = in_a_row([self.bbox_branch(tower) for tower in towers], 1).squeeze(-1)
        if self.bbox_refine is not None:
            factor = in_a_row([self.bbox_refine(tower) for tower in towers], 4)
            found["bbox_refined"] = boxes.detach() * factor.clamp(max=LONGEST).exp()
        return found


class DenseHead(nn.Module):
    """Classes by torchvision's head, boxes by :class:`DenseBoxHead`; the names of torchvision's RetinaNet and FCOS."""

    def __init__(self, classification_head: nn.Module, regression_head: DenseBoxHead) -> None:
        super().__init__()
        self.classification_head = classification_head
        self.regression_head = regression_head

    def forward(self, levels: Sequence[Tensor]) -> dict[str, Tensor]:
        """The outputs that :class:`~harness.detectors.networks.dense_detector.DenseDetector` reads."""
        return {"cls_logits": self.classification_head(list(levels)), **self.regression_head(levels)}


def in_a_row(maps: Sequence[Tensor], columns: int) -> Tensor:
    """Maps ``(B, A * columns, H, W)`` of all levels to ``(B, N, columns)``: level by level, row by row, anchor by
    anchor."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, columns) for level in maps], 1)
