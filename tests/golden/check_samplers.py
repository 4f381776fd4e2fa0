"""The samplers against their references: what was taken, or in what proportion over many draws."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import hypergeom, norm
from torch import Tensor

from harness.coders import DeltaCoder
from harness.core.structures import (
    Assignment,
    CandidateLosses,
    Candidates,
    GroundTruth,
    Predictions,
    Sampler,
    SamplingResult,
)
from harness.samplers.all import AllSampler
from harness.samplers.combined import CombinedSampler
from harness.samplers.hard_negative import HardNegativeSampler
from harness.samplers.instance_balanced import InstanceBalancedPosSampler
from harness.samplers.iou_balanced import IoUBalancedSampler
from harness.samplers.ohem import OHEMSampler
from harness.samplers.random import RandomSampler
from harness.samplers.score_hlr import ScoreHLRSampler
from tests.golden.case import Case

DRAWS = 1000
SIGMAS = 5
# A deviation of five standard errors of a normal distribution, as a probability: frequencies of rare events are not
# normal, but this probability of them is exact.
TAIL = 2 * norm.sf(SIGMAS)


def scene(case: Case) -> tuple[GroundTruth, Candidates, Assignment]:
    """The case as one image; where it says so, the objects stand before the candidates as their own positives."""
    boxes, labels = case.tensor("gt_boxes"), case.tensor("gt_labels")
    priors, gt_index = case.tensor("priors"), case.tensor("gt_index")
    count = len(labels)
    max_iou = case.tensor("max_iou") if "max_iou" in case else torch.zeros(len(priors))
    if case.params.get("add_gt_as_proposals", False):
        priors = torch.cat((boxes, priors))
        gt_index = torch.cat((torch.arange(count), gt_index))
        max_iou = torch.cat((torch.ones(count), max_iou))
    real = torch.ones(count, dtype=torch.bool)
    truth = GroundTruth(boxes, labels, real, ~real)
    return truth, Candidates(priors, torch.ones(len(priors), dtype=torch.bool)), Assignment(gt_index, max_iou)


def repeated(truth: GroundTruth, candidates: Candidates, assignment: Assignment, times: int):
    """The image ``times`` times as a batch."""

    def batch(values: Tensor) -> Tensor:
        return values.expand(times, *values.shape)

    return (
        GroundTruth(batch(truth.boxes), batch(truth.labels), batch(truth.valid), batch(truth.crowd)),
        Candidates(batch(candidates.boxes), batch(candidates.valid)),
        Assignment(batch(assignment.gt_index), batch(assignment.max_iou)),
    )


def quota(case: Case) -> dict[str, float]:
    names = ("num", "pos_fraction", "neg_pos_ub", "add_gt_as_proposals")
    return {name: case.params[name] for name in names if name in case.params}


def losses(classification: Tensor) -> CandidateLosses:
    return CandidateLosses(classification, torch.zeros_like(classification))


def chosen(sample: SamplingResult, which: Tensor) -> Tensor:
    """The candidates in the slots ``which (S,)`` of one image, in the order of the slots."""
    return sample.index[which]


def masks(sample: SamplingResult, size: int) -> tuple[Tensor, Tensor]:
    """``(D, N)`` bool each: the candidates taken as positives and as negatives."""

    def mask(which: Tensor) -> Tensor:
        times = torch.zeros(*which.shape[:-1], size).scatter_add(-1, sample.index, which.float())
        assert times.max() <= 1, "a candidate was taken twice"
        return times.bool()

    return mask(sample.positive & sample.used), mask(sample.negative)


def assert_same_frequency(ours: Tensor, case: Case, key: str) -> None:
    """``ours (D, N)`` bool happen as often as the frequencies of the reference, each within five standard errors."""
    draws, expected = case.params["draws"], case.arrays[key].astype(np.float64)
    theirs = np.rint(expected * draws)
    mine = ours.sum(0).numpy()
    law = hypergeom(draws + len(ours), theirs + mine, draws)
    unlikely = np.minimum(law.cdf(theirs), law.sf(theirs - 1)) < TAIL / 2
    assert not unlikely.any(), f"{case.item}/{case.name} {key}: {np.flatnonzero(unlikely)} differ"


def assert_same_mean(ours: Tensor, case: Case, prefix: str) -> None:
    """``ours (D, K)`` counts have the reference's mean within five standard errors; equal where neither varies."""
    if ours.shape[-1] == 0:  # no object
        return
    draws = case.params["draws"]
    mean, std = case.tensor(f"{prefix}_mean").double(), case.tensor(f"{prefix}_std").double()
    ours = ours.double()
    error = (std**2 / draws + ours.var(0) / len(ours)).sqrt()
    deviation = (ours.mean(0) - mean).abs()
    assert (deviation <= SIGMAS * error + 1e-4).all(), f"{case.item}/{case.name} {prefix}: {deviation} of {error}"


def check_draws(case: Case, sampler: Sampler, *, as_reference: bool = True) -> tuple[Tensor, Tensor, Assignment]:
    """Counts, and over many draws who is taken how often, ``as_reference`` for negatives too; returns the masks."""
    batch = repeated(*scene(case), DRAWS)
    assignment = batch[2]
    noise = torch.rand(assignment.gt_index.shape, generator=torch.Generator().manual_seed(case.params["seed"]))
    positive, negative = masks(sampler(*batch, noise=noise), noise.shape[-1])
    assert (positive.sum(-1) == case.arrays["contract_num_pos"]).all(), f"{case.name}: number of positives"
    assert (negative.sum(-1) == case.arrays["contract_num_neg"]).all(), f"{case.name}: number of negatives"
    if case.params["reference_below_contract"]:
        # Fault of the reference: it subtracts sets of 0-d tensors, which are told apart by identity, so that it draws
        # some positives twice and returns fewer than its parameters promise, with more negatives in their place.
        assert case.arrays["expected_num_pos_mean"] < case.arrays["contract_num_pos"]
        return positive, negative, assignment
    assert case.arrays["expected_num_pos_mean"] == case.arrays["contract_num_pos"]
    assert_same_frequency(positive, case, "expected_pos_inclusion")
    if as_reference:
        assert_same_frequency(negative, case, "expected_neg_inclusion")
    if "expected_pos_per_gt_mean" in case:
        assert_same_mean(per_object(positive, assignment, len(case.arrays["gt_labels"])), case, "expected_pos_per_gt")
    return positive, negative, assignment


def per_object(positive: Tensor, assignment: Assignment, objects: int) -> Tensor:
    """``(D, G)``: how many positives each object has."""
    owner = assignment.gt_index.clamp(min=0)
    return torch.zeros(len(positive), objects + 1).scatter_add(-1, owner, positive.float())[:, :objects]


def per_bin(negative: Tensor, iou: Tensor, edges: Tensor) -> Tensor:
    """``(D, bins + 2)``: negatives below the first edge, in each bin, and at or above the last edge."""
    place = (iou.unsqueeze(-1) >= edges).sum(-1)
    counts = torch.zeros(len(negative), len(edges) + 1)
    return counts.scatter_add(-1, place.expand(negative.shape), negative.float())


def check_random(case: Case) -> None:
    check_draws(case, RandomSampler(**quota(case)))


def check_instance_balanced(case: Case) -> None:
    check_draws(case, InstanceBalancedPosSampler(**quota(case)))


def iou_balanced(case: Case, **changes: float) -> IoUBalancedSampler:
    names = ("floor_thr", "floor_fraction", "num_bins")
    return IoUBalancedSampler(**quota(case), **{name: case.params[name] for name in names} | changes)


def changes_itself(case: Case) -> bool:
    """The fault of a reference that is kept between draws: it turns ``floor_thr`` from -1 into 0 on first use. But for
    the first draw, its frequencies are those of another sampler than the parameters say, which hardly ever takes a
    negative without overlap.
    """
    return case.params["sampler_reused_between_draws"] and case.params["floor_thr"] == -1


def check_bins(case: Case, negative: Tensor, assignment: Assignment) -> None:
    counts = per_bin(negative, assignment.max_iou[0], case.tensor("bin_edges"))
    assert_same_mean(counts, case, "expected_neg_per_bin")


def check_promise(case: Case, negative: Tensor, assignment: Assignment) -> None:
    """What ``floor_thr=-1`` promises: every bin its quota, and whether a negative has no overlap does not matter."""
    iou, edges = assignment.max_iou[0], case.tensor("bin_edges")
    if case.params["num_bins"] > 1:
        granted = int(int(case.arrays["contract_num_neg"]) * (1 - case.params["floor_fraction"]))
        quota_of_bins = case.tensor("available_neg_per_bin")[1:-1].clamp(max=granted // case.params["num_bins"])
        counts = per_bin(negative, iou, edges)[:, 1:-1]
        assert (counts >= quota_of_bins).all(), f"{case.name}: a bin is below its quota"
    lowest = (assignment.gt_index[0] == -1) & (iou < edges[1])
    without = lowest & (iou == 0)
    if not lowest.any():
        return
    surplus = negative[:, without].sum(-1) - without.sum() / lowest.sum() * negative[:, lowest].sum(-1)
    error = surplus.std() / len(negative) ** 0.5
    assert surplus.mean().abs() <= SIGMAS * error + 1e-4, f"{case.name}: negatives without overlap are told apart"


def check_iou_balanced(case: Case) -> None:
    sampler = iou_balanced(case)
    before = dict(vars(sampler))
    _, negative, assignment = check_draws(case, sampler, as_reference=not changes_itself(case))
    assert vars(sampler) == before, "the sampler changed itself"
    if changes_itself(case):
        check_promise(case, negative, assignment)
        _, negative, assignment = check_draws(case, iou_balanced(case, floor_thr=0))  # the changed self is known
    check_bins(case, negative, assignment)


def check_combined(case: Case) -> None:
    """The reference is kept between draws, so the same fault as above."""

    def combined(**changes: float) -> CombinedSampler:
        return CombinedSampler(
            **quota(case), pos=InstanceBalancedPosSampler(**quota(case)), neg=iou_balanced(case, **changes)
        )

    _, negative, assignment = check_draws(case, combined(), as_reference=not changes_itself(case))
    if changes_itself(case):
        check_promise(case, negative, assignment)
        _, negative, assignment = check_draws(case, combined(floor_thr=0))
    if not case.params["reference_below_contract"]:
        check_bins(case, negative, assignment)


def check_ohem(case: Case) -> None:
    sample = OHEMSampler(**quota(case))(*scene(case), losses=losses(case.tensor("loss")))
    assert (
        chosen(sample, sample.positive & sample.used).sort().values.tolist()
        == case.arrays["expected_pos_index"].tolist()
    )
    assert chosen(sample, sample.negative).sort().values.tolist() == case.arrays["expected_neg_index"].tolist()
    if "expected_pos_gt_index" in case:
        of = scene(case)[2].gt_index[chosen(sample, sample.positive & sample.used).sort().values]
        assert of.tolist() == case.arrays["expected_pos_gt_index"].tolist()


def check_ohem_paper(case: Case) -> None:
    """The reference shares one quota among its images: they are laid apart here as one image."""
    rois, label, loss = case.tensor("rois"), case.tensor("labels"), case.tensor("loss")
    classes = int(label.max()) + 1
    none = torch.zeros(classes, dtype=torch.bool)
    # An object a class, so that a candidate's object gives it its label.
    truth = GroundTruth(torch.zeros(classes, 4), torch.arange(classes), ~none, none)
    assignment = Assignment(torch.where(label > 0, label - 1, -1), torch.zeros(len(label)))
    apart = rois[:, :1].double() * 10_000
    use = case.params["nms_thresh"] if case.params["use_nms"] else None

    def hardest(boxes: Tensor, per_label: bool) -> list[int]:
        sampler = OHEMSampler(
            case.params["batch_size"],
            0.25,
            nms_thr=use,
            nms_per_label=per_label,
            rank_by="total",
            separate_quotas=False,
        )
        candidates = Candidates(boxes + apart, torch.ones(len(boxes), dtype=torch.bool))
        sample = sampler(truth, candidates, assignment, losses=losses(loss))
        assert torch.equal(sample.positive, sample.used & (sample.take(label) > 0))
        return chosen(sample, sample.used).tolist()

    boxes = rois[:, 1:].double()
    assert hardest(boxes, per_label=True) == case.arrays["expected_hard_index_continuous"].tolist()
    assert hardest(boxes, per_label=False) == case.arrays["expected_hard_index_class_agnostic"].tolist()
    # The reference's own boxes end at the last pixel that they hold: in continuous coordinates one pixel further.
    inclusive = boxes + torch.tensor([0, 0, 1, 1])
    assert hardest(inclusive, per_label=True) == case.arrays["expected_hard_index_pixel_plus1"].tolist()


def check_hard_negative(case: Case) -> None:
    """The answer of mmdetection is right. torchvision ranks the positives as background too: where the ratio asks for
    more negatives than there are (ratio_exceeds_negatives), it counts some positives twice, and its loss is larger.
    """
    gt_index, target, loss = (case.tensor(key) for key in ("matched_gt_index", "cls_target", "cls_loss_per_anchor"))
    gt_index = torch.where(target > 0, gt_index.clamp(min=0), -1)
    boxes, labels = ([case.tensor(f"gt_{what}_{i}") for i in range(len(target))] for what in ("boxes", "labels"))
    candidates = Candidates(case.tensor("anchors"), torch.ones(target.shape, dtype=torch.bool))
    sampler = HardNegativeSampler(case.params["neg_to_pos_ratio"])
    sample = sampler(
        GroundTruth.pad(boxes, labels), candidates, Assignment(gt_index, torch.zeros_like(loss)), losses=losses(loss)
    )
    assert sample.in_order
    assert torch.equal(sample.used, case.tensor("expected_mmdet_selected_mask"))
    assert torch.equal(sample.positive, target > 0)
    assert torch.equal(sample.used, case.tensor("expected_selected_mask"))
    assert torch.equal(sample.negative, case.tensor("expected_negative_mask"))
    total = (loss * sample.weight).sum() / sample.positive.sum().clamp(min=1)
    case.assert_close(total, "expected_mmdet_classification_loss", rtol=1e-5, atol=1e-6)
    if case.params["ratio_exceeds_negatives"]:
        assert case.tensor("expected_classification_loss") > total, "the reference has no such fault here"
    else:
        case.assert_close(total, "expected_classification_loss", rtol=1e-5, atol=1e-6)


def check_score_hlr(case: Case) -> None:
    truth, candidates, assignment = scene(case)
    logits, deltas = case.tensor("cls_logits"), case.tensor("bbox_pred")
    background = logits.shape[-1] - 1
    scores = logits.softmax(-1)[:, :background]
    column = scores.argmax(-1)[:, None, None].expand(-1, 1, 4)
    likeliest = deltas.unflatten(-1, (background, 4)).gather(1, column).squeeze(1)
    coder = DeltaCoder(weights=tuple(1 / std for std in case.params["coder_stds"]))
    label = truth.labels[assignment.gt_index.clamp(min=0)] if len(truth.labels) else torch.zeros(len(logits)).long()
    target = torch.where(assignment.positive, label, background)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    sampler = ScoreHLRSampler(**quota(case), **{key: case.params[key] for key in ("k", "bias", "score_thr", "iou_thr")})
    sample = sampler(
        truth,
        candidates.predicted(Predictions(scores, coder.decode(likeliest, candidates.boxes))),
        assignment,
        noise=torch.rand(len(logits), generator=torch.Generator().manual_seed(case.params["seed"])),
        losses=losses(loss),
    )
    taken = chosen(sample, sample.positive & sample.used)
    assert len(taken) == case.arrays["expected_num_pos"]
    if case.params["pos_deterministic"]:
        assert taken.sort().values.tolist() == case.arrays["expected_pos_index"].tolist()
    ours, expected = chosen(sample, sample.negative), case.tensor("expected_neg_index")
    assert len(ours) == len(expected)
    weight = sample.weight[sample.negative]
    if case.params["neg_deterministic"]:
        assert ours.tolist() == expected.tolist()
        case.assert_close(weight, "expected_neg_label_weights", rtol=1e-5, atol=1e-6)
        return
    # The confident ones lead in a fixed order; the others, and with them the scale of the weights, are drawn.
    confident = (scores.amax(-1)[expected] > case.params["score_thr"]).sum()
    assert ours[:confident].tolist() == expected[:confident].tolist()
    reference = case.tensor("expected_neg_label_weights")
    if len(reference) == 0:
        return
    torch.testing.assert_close(weight / weight[0], reference / reference[0], rtol=1e-5, atol=1e-6)


def check_all(case: Case) -> None:
    gt_index = case.tensor("gt_index")
    sample = AllSampler()(*scene(case))
    assert sample.in_order
    assert chosen(sample, sample.positive).tolist() == case.arrays["expected_pos_index"].tolist()
    assert chosen(sample, sample.negative).tolist() == case.arrays["expected_neg_index"].tolist()
    assert gt_index[sample.positive].tolist() == case.arrays["expected_pos_gt_index"].tolist()
    assert max(int(sample.positive.sum()), 1) == case.arrays["expected_avg_factor"]


CHECKS = {
    "random": check_random,
    "instance_balanced_pos": check_instance_balanced,
    "iou_balanced_neg_fresh": check_iou_balanced,
    "iou_balanced_neg_reused": check_iou_balanced,
    "combined": check_combined,
    "ohem_mmdet": check_ohem,
    "ohem_rpn": check_ohem,
    "ohem_paper": check_ohem_paper,
    "ssd_hard_negative": check_hard_negative,
    "score_hlr": check_score_hlr,
    "pseudo": check_all,
}
