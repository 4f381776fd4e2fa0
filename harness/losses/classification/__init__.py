"""Classification losses, one method per file."""

from __future__ import annotations

from harness.losses.classification.acsl import ACSLLoss
from harness.losses.classification.alrp import ALRPLoss
from harness.losses.classification.ap_loss import APLoss
from harness.losses.classification.binary_cross_entropy import BinaryCrossEntropyLoss
from harness.losses.classification.bucketed_rank_sort import BucketedRankSortLoss
from harness.losses.classification.class_balanced_focal import ClassBalancedFocalLoss
from harness.losses.classification.cross_entropy import CrossEntropyLoss
from harness.losses.classification.eqlv1 import EQLv1Loss
from harness.losses.classification.eqlv2 import EQLv2Loss
from harness.losses.classification.federated import FederatedLoss
from harness.losses.classification.focal import FocalLoss
from harness.losses.classification.ghm_c import GHMCLoss
from harness.losses.classification.mal import MALLoss
from harness.losses.classification.quality_focal import QualityFocalLoss
from harness.losses.classification.rank_sort import RankSortLoss
from harness.losses.classification.seesaw import SeesawLoss
from harness.losses.classification.softmax_focal import SoftmaxFocalLoss
from harness.losses.classification.topk import TopKLoss
from harness.losses.classification.topk_cross_entropy import TopKCrossEntropyLoss
from harness.losses.classification.varifocal import VarifocalLoss

__all__ = [
    "ACSLLoss",
    "ALRPLoss",
    "APLoss",
    "BinaryCrossEntropyLoss",
    "BucketedRankSortLoss",
    "ClassBalancedFocalLoss",
    "CrossEntropyLoss",
    "EQLv1Loss",
    "EQLv2Loss",
    "FederatedLoss",
    "FocalLoss",
    "GHMCLoss",
    "MALLoss",
    "QualityFocalLoss",
    "RankSortLoss",
    "SeesawLoss",
    "SoftmaxFocalLoss",
    "TopKCrossEntropyLoss",
    "TopKLoss",
    "VarifocalLoss",
]
