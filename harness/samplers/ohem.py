"""Online hard example mining."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.core import limits
from harness.core.processes import gather_rows, own_rows, process_count
from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth, Need, SamplingResult
from harness.core.topk import NEVER, among, mask_of_largest, order_code
from harness.samplers.building_blocks.hardness import hardest, hardness, parse_rank_by
from harness.samplers.building_blocks.quota import Quota
from harness.samplers.building_blocks.ranker import Pool, sample_by_rank
from harness.samplers.building_blocks.slots import keep_in_order
from harness.samplers.building_blocks.suppression import suppress

SCOPES = ("image", "batch")


class OHEMSampler:
    """The candidates with the highest loss (Shrivastava, Gupta and Girshick 2016, "Training region-based object
    detectors with online hard example mining").

    All candidates are ranked by their loss under the current weights, and the head then trains on the chosen only.
    Two forms:

    - mmdetection's: the hardest positives and the hardest negatives, each within its quota (``separate_quotas=True``);
    - the paper's (section 4): the ``num`` hardest candidates of the image whatever they are (``separate_quotas=False``;
      ``pos_fraction`` and ``neg_pos_ub`` are not looked at), after non-maximum suppression by loss (``nms_thr=0.7``),
      by the sum of both losses (``rank_by="total"``). What is suppressed does not train, even if slots stay open.

    ``scope`` says what competes: the candidates of one image, or those of all images of the batch for ``num`` places
    times the number of images, so that an image with more hard candidates gets more places. Then each image has as many
    slots as candidates, and the sampler asks for ``Need.BATCH``.

    A NaN loss ranks last, an infinite one first; equal losses go by index. With ``nms_thr`` the sampler does not
    compile without a graph break, and waits for the device in every image.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.
        nms_thr: candidates with a larger IoU with a harder one are left out, in [0, 1]; ``None`` for no suppression.
        nms_per_label: suppress among candidates of the same class only, the background being one (the authors' code);
            otherwise among all of the image.
        rank_by: ``cls`` or ``total``, the loss that ranks.
        separate_quotas: a quota for the positives and one for the negatives, or one for both.
        scope: ``image`` or ``batch``, where the hardest are searched.

    Raises:
        ValueError: a value is out of its range.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        nms_thr: float | None = None,
        nms_per_label: bool = True,
        rank_by: str = "cls",
        separate_quotas: bool = True,
        scope: str = "image",
    ) -> None:
        self.quota = Quota(num, pos_fraction, neg_pos_ub)
        self.add_gt_as_proposals = add_gt_as_proposals
        self.nms_thr = limits.optional(limits.between, "nms_thr", nms_thr, 0, 1)
        self.nms_per_label = nms_per_label
        self.rank_by = parse_rank_by(rank_by)
        self.separate_quotas = separate_quotas
        self.scope = limits.one_of("scope", scope, SCOPES)
        self.needs = frozenset({Need.LOSSES, Need.BATCH} if self.scope == "batch" else {Need.LOSSES})

    def rank_positives(self, pool: Pool, expected: int) -> Tensor:
        """By loss."""
        return hardness(pool, self.rank_by)

    def rank_negatives(self, pool: Pool, expected: Tensor, at_most: int) -> Tensor:
        """By loss."""
        return hardness(pool, self.rank_by)

    def __call__(
        self,
        truth: GroundTruth,
        candidates: Candidates,
        assignment: Assignment,
        *,
        noise: Tensor | None = None,
        losses: CandidateLosses | None = None,
    ) -> SamplingResult:
        """Samples; ``losses`` are required, ``noise`` is not looked at."""
        pool = Pool.of(truth, candidates, assignment, losses=losses)
        if self.nms_thr is not None:
            pool = pool.restricted(self._survivors(pool, self.nms_thr))
        if self.scope == "batch":
            return self._of_batch(pool)
        if self.separate_quotas:
            return sample_by_rank(self.quota, pool, positives=self, negatives=self)
        return hardest(pool, self.rank_by, self.quota.num)

    def _of_batch(self, pool: Pool) -> SamplingResult:
        """The hardest of all images together, over all processes; each then keeps its own."""
        shape = pool.positive.shape
        own, images = pool.positive.numel(), pool.positive.shape[:-1].numel() * process_count()
        code = gather_rows(order_code(hardness(pool, self.rank_by)).flatten(), NEVER)
        positive, negative = gather_rows(pool.positive.flatten(), 0), gather_rows(pool.negative.flatten(), 0)
        if len(code) == 0:
            return keep_in_order(pool.positive, pool.negative)
        places = self.quota.num * images
        if self.separate_quotas:
            granted = torch.full((1,), self.quota.num_pos * images, device=code.device)
            positive = mask_of_largest(among(code, positive), granted, places)
            granted = self.quota.negatives_beside(positive.count_nonzero().unsqueeze(-1), images)
            negative = mask_of_largest(among(code, negative), granted, places)
        else:
            granted = torch.full((1,), places, device=code.device)
            taken = mask_of_largest(among(code, positive | negative), granted, places)
            positive, negative = positive & taken, negative & taken
        return keep_in_order(own_rows(positive, own).view(shape), own_rows(negative, own).view(shape))

    def _survivors(self, pool: Pool, nms_thr: float) -> Tensor:
        group = torch.zeros_like(pool.assignment.gt_index)
        if self.nms_per_label and pool.truth.labels.shape[-1] > 0:
            label = pool.truth.labels.gather(-1, pool.assignment.gt_index.clamp(min=0))
            group = torch.where(pool.positive, label + 1, 0)
        allowed = pool.positive | pool.negative
        return suppress(pool.candidates.boxes, hardness(pool, self.rank_by), allowed, group, nms_thr)
