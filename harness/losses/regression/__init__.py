"""Regression losses, one method per file."""

from __future__ import annotations

from harness.losses.regression.balanced_l1 import BalancedL1Loss
from harness.losses.regression.bounded_iou import BoundedIoULoss
from harness.losses.regression.ciou import CIoULoss
from harness.losses.regression.diou import DIoULoss
from harness.losses.regression.distribution_focal import DistributionFocalLoss
from harness.losses.regression.eiou import EIoULoss
from harness.losses.regression.ghm_r import GHMRLoss
from harness.losses.regression.giou import GIoULoss
from harness.losses.regression.iou import IoULoss
from harness.losses.regression.l1 import L1Loss
from harness.losses.regression.siou import SIoULoss
from harness.losses.regression.smooth_l1 import SmoothL1Loss

__all__ = [
    "BalancedL1Loss",
    "BoundedIoULoss",
    "CIoULoss",
    "DIoULoss",
    "DistributionFocalLoss",
    "EIoULoss",
    "GHMRLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "SIoULoss",
    "SmoothL1Loss",
]
