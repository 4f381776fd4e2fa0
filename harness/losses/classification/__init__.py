"""Classification losses, one method per file."""

from __future__ import annotations

from harness.losses.classification.ap_loss import APLoss
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.classification.eqlv2 import EQLv2Loss
from harness.losses.classification.focal import FocalLoss
from harness.losses.classification.ghm_c import GHMCLoss
from harness.losses.classification.quality_focal import QualityFocalLoss
from harness.losses.classification.seesaw import SeesawLoss
from harness.losses.classification.softmax_focal import SoftmaxFocalLoss
from harness.losses.classification.topk_cross_entropy import TopKCrossEntropyLoss
from harness.losses.classification.varifocal import VarifocalLoss

__all__ = [
    "APLoss",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "EQLv2Loss",
    "FocalLoss",
    "GHMCLoss",
    "QualityFocalLoss",
    "SeesawLoss",
    "SoftmaxFocalLoss",
    "TopKCrossEntropyLoss",
    "VarifocalLoss",
]
