"""Golden values of the second set's samplers."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from harness.core.structures import Assignment, CandidateLosses, Candidates, GroundTruth
from harness.losses.reduction import Counts, Normalizer, reduce
from harness.samplers.ohem_threshold import OHEMThresholdSampler
from tests.golden.case import Case
from tests.golden2.tolerances import LOSS, assert_gradient


def check_ohem_rpn_threshold(case: Case) -> None:
    logits, labels = case.tensor("objectness_logits").requires_grad_(), case.tensor("labels")
    images, anchors = labels.shape
    truth = GroundTruth(
        boxes=torch.zeros(images, 1, 4),
        labels=torch.zeros(images, 1, dtype=torch.int64),
        valid=torch.ones(images, 1, dtype=torch.bool),
        crowd=torch.zeros(images, 1, dtype=torch.bool),
    )
    candidates = Candidates(torch.zeros(images, anchors, 4), torch.ones(images, anchors, dtype=torch.bool))
    # 1 an object, 0 background, -1 neutral: there 0, -1 and -2.
    assignment = Assignment(labels - 1, torch.zeros(images, anchors))
    values = binary_cross_entropy_with_logits(logits, labels.clamp(min=0).float(), reduction="none")
    competing = labels >= 0
    torch.testing.assert_close(values[competing].detach(), case.tensor("loss_per_anchor")[competing], **LOSS)

    # Ranked by the float64 losses that the file rounds to float32, so that ties are ties.
    losses = CandidateLosses(case.tensor("loss_per_anchor"), torch.zeros(images, anchors))
    sample = OHEMThresholdSampler(case.params["k"])(truth, candidates, assignment, losses=losses)
    robust = case.tensor("robust")
    assert torch.equal(sample.used[robust], case.tensor("expected_keep")[robust])
    kept = losses.classification[sample.used]
    case.assert_close(kept.min(), "expected_threshold", **LOSS)
    if robust.all():
        loss = reduce(values * sample.weight, Counts(sample), Normalizer.SAMPLED)
        case.assert_close(loss, "expected_loss", **LOSS)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert_gradient(case, gradient, "expected_grad")


CHECKS = {"ohem_rpn_threshold": check_ohem_rpn_threshold}
