"""The samplers: which assigned candidates train, with what weight. One published method per file.

A sampler ranks: it gives each candidate a priority, and the first positives and the first negatives fill the slots that
:mod:`~harness.samplers.building_blocks.quota` grants (:mod:`~harness.samplers.building_blocks.slots`).
"""

from harness.samplers.all import AllSampler
from harness.samplers.combined import CombinedSampler
from harness.samplers.hard_negative import HardNegativeSampler
from harness.samplers.instance_balanced import InstanceBalancedPosSampler
from harness.samplers.iou_balanced import IoUBalancedSampler
from harness.samplers.isr_p import ISRPSampler
from harness.samplers.loss_rank_mining import LossRankMiningSampler
from harness.samplers.matched_random import MatchedRandomSampler
from harness.samplers.offline_hard import OfflineHardSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.ohem_threshold import OHEMThresholdSampler
from harness.samplers.random import RandomSampler
from harness.samplers.score_hlr import ScoreHLRSampler
from harness.samplers.soft_sampling import SoftSampler
from harness.samplers.topk_loss import TopKLossSampler

__all__ = [
    "AllSampler",
    "CombinedSampler",
    "HardNegativeSampler",
    "ISRPSampler",
    "InstanceBalancedPosSampler",
    "IoUBalancedSampler",
    "LossRankMiningSampler",
    "MatchedRandomSampler",
    "OHEMSampler",
    "OHEMThresholdSampler",
    "OfflineHardSampler",
    "RandomSampler",
    "ScoreHLRSampler",
    "SoftSampler",
    "TopKLossSampler",
]
