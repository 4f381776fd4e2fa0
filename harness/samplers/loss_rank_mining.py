"""Loss rank mining: the predictions of the highest loss, after suppression of those that overlap a harder one."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.samplers.building_blocks.hardness import hardest, hardness, parse_rank_by
from harness.samplers.building_blocks.ranker import Pool
from harness.samplers.building_blocks.suppression import suppress


class LossRankMiningSampler:
    """Hard example mining for detectors without a region proposal stage (Yu et al. 2018, "Loss rank mining: a general
    hard example mining method for real-time detectors").

    Every element of the final feature map is an example. Non-maximum suppression among the *predicted* boxes, the
    harder one surviving, leaves one example of each cluster; of these the ``num`` of the highest loss train, whatever
    they are. In OHEM as published, in contrast, the boxes of the candidates suppress each other, which in a grid of
    points or anchors never changes.

    A prediction that is not finite neither suppresses nor is suppressed. The number of survivors is data: the sampler
    does not compile without a graph break, and waits for the device in every image.

    Args:
        num: examples per image, >= 1 (the paper's K).
        nms_thr: predictions with a larger IoU with a harder one are left out, in [0, 1].
        rank_by: ``cls`` or ``total``, the loss that ranks.

    Raises:
        ValueError: a value is out of its range.
    """

    needs: frozenset[Need] = frozenset({Need.LOSSES, Need.PREDICTIONS})
    add_gt_as_proposals = False

    def __init__(self, num: int, nms_thr: float = 0.7, rank_by: str = "total") -> None:
        self.num = limits.count("num", num, 1)
        self.nms_thr = limits.between("nms_thr", nms_thr, 0, 1)
        self.rank_by = parse_rank_by(rank_by)

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``losses`` and ``candidates.predictions`` are required, ``noise`` is not looked at."""
        pool = Pool.of(truth, candidates, assignment, losses=losses)
        boxes = candidates.predictions_for("LossRankMiningSampler").boxes
        one_group = torch.zeros_like(assignment.gt_index)
        allowed = pool.positive | pool.negative
        survivors = suppress(boxes, hardness(pool, self.rank_by), allowed, one_group, self.nms_thr)
        return hardest(pool.restricted(survivors), self.rank_by, self.num)
