"""Uniform random sampling within a quota: what the others are compared with."""

from __future__ import annotations

from harness.samplers.building_blocks.quota_sampler import QuotaSampler


class RandomSampler(QuotaSampler):
    """Positives and negatives at random (Faster R-CNN, Ren et al. 2015, section 3.1.3; Fast R-CNN, section 2.3).

    Every subset of the granted size is equally likely. Ranks by noise, so that a choice among N costs no permutation.

    Args:
        num: slots per image, >= 1.
        pos_fraction: largest share of positives, in [0, 1].
        neg_pos_ub: at most this many negatives per positive, >= 0; -1 for no bound.
        add_gt_as_proposals: let the ground-truth boxes join the proposals of an RoI stage.

    Raises:
        ValueError: a value is out of its range.
    """
