"""The class predictor of RetinaNet and FCOS: counted in a state dict, and replaced for another number of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

PRIOR = 0.01  # probability that a fresh predictor gives to every class (Lin et al. 2017, section 4.1)
PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)


class TowerPredictor:
    """The last convolution of the class tower; the tower stays."""

    def classes(self, state: Mapping[str, Tensor]) -> int:
        return columns_of(
            state["head.classification_head.cls_logits.weight"], state["head.regression_head.bbox_reg.weight"]
        )

    def replace(self, model: Any, num_classes: int) -> None:
        head = model.head.classification_head
        old = head.cls_logits
        fresh = nn.Conv2d(old.in_channels, head.num_anchors * num_classes, old.kernel_size, old.stride, old.padding)
        nn.init.normal_(fresh.weight, std=0.01)
        nn.init.constant_(fresh.bias, PRIOR_BIAS)  # type: ignore[arg-type]
        head.cls_logits = fresh
        head.num_classes = num_classes


def columns_of(classification: Tensor, regression: Tensor) -> int:
    """Columns per candidate, out of the weights of the last convolutions: ``A * columns`` and ``A * 4`` rows."""
    return classification.shape[0] * 4 // regression.shape[0]
