"""The two heads of the YOLOX report: coupled (YOLOv3's) and decoupled (YOLOX's).

Source: YOLOX (Ge et al. 2021), section 2.1 and figure 2. Both speak the same language, so that the choice between them
is one word of the configuration: for every point (or anchor) one logit per class, four box numbers and one
objectness logit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.detectors.networks.pafpn import NormLayer, conv
from harness.detectors.zoo.dense_predictor import PRIOR_BIAS


def _predictor(channels: int, columns: int, bias: float = 0.0) -> nn.Conv2d:
    layer = nn.Conv2d(channels, columns, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer


class DecoupledLevel(nn.Module):
    """One branch for the class, one for the box and the objectness."""

    def __init__(self, channels: int, num_classes: int, anchors: int, norm_layer: NormLayer) -> None:
        super().__init__()

        def tower() -> nn.Module:
            return nn.Sequential(conv(channels, channels, 3, norm_layer), conv(channels, channels, 3, norm_layer))

        self.stem = conv(channels, channels, 1, norm_layer)
        self.classification_tower = tower()
        self.regression_tower = tower()
        self.classification = _predictor(channels, anchors * num_classes, PRIOR_BIAS)
        self.regression = _predictor(channels, anchors * 4)
        self.objectness = _predictor(channels, anchors, PRIOR_BIAS)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, C, H, W)`` to class ``(B, A * K, H, W)``, box ``(B, A * 4, H, W)``, objectness ``(B, A, H, W)``."""
        feature = self.stem(feature)
        boxes = self.regression_tower(feature)
        return (
            self.classification(self.classification_tower(feature)),
            self.regression(boxes),
            self.objectness(boxes),
        )


class CoupledLevel(nn.Module):
    """All three from one tower, as in YOLOv3."""

    def __init__(self, channels: int, num_classes: int, anchors: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.tower = nn.Sequential(conv(channels, channels, 1, norm_layer), conv(channels, channels, 3, norm_layer))
        self.classification = _predictor(channels, anchors * num_classes, PRIOR_BIAS)
        self.regression = _predictor(channels, anchors * 4)
        self.objectness = _predictor(channels, anchors, PRIOR_BIAS)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As :class:`DecoupledLevel`."""
        feature = self.tower(feature)
        return self.classification(feature), self.regression(feature), self.objectness(feature)


LEVELS = {"coupled": CoupledLevel, "decoupled": DecoupledLevel}


class YOLOXHead(nn.Module):
    """A head for every level, not shared between them.

    Args:
        num_levels: of the pyramid.
        channels: of every level.
        num_classes: foreground classes K.
        anchors: predictions per cell, A.
        kind: ``coupled | decoupled``.
        norm_layer: from a number of channels to a normalization.

    Raises:
        ValueError: an unknown kind.
    """

    def __init__(
        self, num_levels: int, channels: int, num_classes: int, anchors: int, kind: str, norm_layer: NormLayer
    ) -> None:
        super().__init__()
        if kind not in LEVELS:
            raise ValueError(f"head={kind!r} is unknown; choose one of {', '.join(LEVELS)}")
        self.num_classes = num_classes
        self.levels = nn.ModuleList(LEVELS[kind](channels, num_classes, anchors, norm_layer) for _ in range(num_levels))

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Every level's answers in one row of ``N`` candidates: level by level, row by row, anchor by anchor.

        Returns:
            ``cls_logits (B, N, K)``, ``bbox_regression (B, N, 4)``, ``objectness (B, N)``.
        """
        levels = [level(feature) for level, feature in zip(self.levels, features, strict=True)]
        logits, boxes, objectness = (
            torch.cat([_in_a_row(answer, columns) for answer in answers], 1)
            for answers, columns in zip(zip(*levels, strict=True), (self.num_classes, 4, 1), strict=True)
        )
        return {"cls_logits": logits, "bbox_regression": boxes, "objectness": objectness.squeeze(-1)}


def _in_a_row(answer: Tensor, columns: int) -> Tensor:
    """``(B, A * columns, H, W)`` to ``(B, H * W * A, columns)``."""
    return answer.permute(0, 2, 3, 1).reshape(answer.shape[0], -1, columns)
