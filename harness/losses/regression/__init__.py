"""Regression losses, one method per file."""

from __future__ import annotations

from harness.losses.regression.alpha_iou import AlphaIoULoss
from harness.losses.regression.balanced_l1 import BalancedL1Loss
from harness.losses.regression.bounded_iou import BoundedIoULoss
from harness.losses.regression.ciou import CIoULoss
from harness.losses.regression.diou import DIoULoss
from harness.losses.regression.distribution_focal import DistributionFocalLoss
from harness.losses.regression.eiou import EIoULoss
from harness.losses.regression.focal_eiou import FocalEIoULoss
from harness.losses.regression.focaler_iou import FocalerIoULoss
from harness.losses.regression.ghm_r import GHMRLoss
from harness.losses.regression.giou import GIoULoss
from harness.losses.regression.inner_iou import InnerIoULoss
from harness.losses.regression.iou import IoULoss
from harness.losses.regression.kld import KLDLoss
from harness.losses.regression.l1 import L1Loss
from harness.losses.regression.mpdiou import MPDIoULoss
from harness.losses.regression.nwd import NWDLoss
from harness.losses.regression.shape_iou import ShapeIoULoss
from harness.losses.regression.siou import SIoULoss
from harness.losses.regression.smooth_l1 import SmoothL1Loss
from harness.losses.regression.wiou import WIoULoss

__all__ = [
    "AlphaIoULoss",
    "BalancedL1Loss",
    "BoundedIoULoss",
    "CIoULoss",
    "DIoULoss",
    "DistributionFocalLoss",
    "EIoULoss",
    "FocalEIoULoss",
    "FocalerIoULoss",
    "GHMRLoss",
    "GIoULoss",
    "InnerIoULoss",
    "IoULoss",
    "KLDLoss",
    "L1Loss",
    "MPDIoULoss",
    "NWDLoss",
    "SIoULoss",
    "ShapeIoULoss",
    "SmoothL1Loss",
    "WIoULoss",
]
