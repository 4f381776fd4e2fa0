"""The golden values of the assigners that look at predictions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.assigners.dynamic_soft_label import DynamicSoftLabelAssigner
from harness.assigners.hungarian import HungarianAssigner
from harness.assigners.ota import OTAAssigner
from harness.assigners.paa import PAAAssigner
from harness.assigners.simota import SimOTAAssigner
from harness.assigners.task_aligned import TaskAlignedAssigner
from harness.core.boxes import aligned_iou
from harness.core.structures import NEGATIVE, Assignment, CandidateLosses, Candidates, GroundTruth, Predictions
from tests.golden.case import Case

VALUES = {"rtol": 1e-5, "atol": 1e-6}  # of IoUs and alignments


def objects(case: Case) -> GroundTruth:
    """The objects of a case, one image without batch dimension."""
    boxes, labels = case.tensor("gt_boxes"), case.tensor("gt_labels")
    valid = torch.ones_like(labels, dtype=torch.bool)
    return GroundTruth(boxes, labels, valid, torch.zeros_like(valid))


def points(centers: Tensor, strides: Tensor, predictions: Predictions) -> Candidates:
    """Candidates at ``centers (N, 2)``: squares of one stride."""
    half = strides.unsqueeze(-1) / 2
    boxes = torch.cat((centers - half, centers + half), -1)
    return Candidates(boxes, torch.ones(len(boxes), dtype=torch.bool), stride=strides, predictions=predictions)


def assert_index(case: Case, assignment: Assignment) -> None:
    """The object of every candidate, exactly, where the reference's own answer does not hang on rounding."""
    robust = case.tensor("robust") if "robust" in case else torch.ones_like(assignment.gt_index, dtype=torch.bool)
    expected = case.tensor("expected_gt_index")
    wrong = (assignment.gt_index != expected) & robust
    assert not wrong.any(), (
        f"{case.item}/{case.name}: {int(wrong.sum())} candidates differ at {wrong.nonzero().flatten()}"
    )


def assert_matched_iou(
    case: Case, truth: GroundTruth, candidates: Candidates, assignment: Assignment, key: str
) -> None:
    """The references' "max IoU" is that of the matched prediction, ours that of the candidate's box: take the pairs."""
    positive = assignment.positive & (case.tensor("expected_gt_index") == assignment.gt_index)
    matched = truth.boxes[assignment.gt_index[positive]]
    iou = aligned_iou(candidates.predictions.boxes[positive], matched)
    torch.testing.assert_close(iou, case.tensor(key)[positive], **VALUES)


def centers_and_strides(case: Case) -> tuple[Tensor, Tensor]:
    if "points" in case:
        return case.tensor("points"), case.tensor("strides")
    priors = case.tensor("priors")
    return priors[:, :2], priors[:, 2]


def options(case: Case, *names: str) -> dict[str, float]:
    return {name: case.params[name] for name in names if name in case.params}


def check_simota(case: Case) -> None:
    flavour = "yolox" if "cls_logits" in case else "mmdet"
    if flavour == "yolox":
        scores = (case.tensor("cls_logits").sigmoid() * case.tensor("obj_logits").sigmoid()).sqrt()
    else:
        scores = case.tensor("scores")
    truth = objects(case)
    candidates = points(*centers_and_strides(case), Predictions(scores, case.tensor("pred_boxes")))
    names = ("center_radius", "candidate_topk", "iou_weight", "cls_weight")
    assignment = SimOTAAssigner(flavour=flavour, **options(case, *names))(truth, candidates)
    if case.params.get("reference_error"):
        # The reference fails where no candidate lies in any region; there is nothing to match then.
        assert (assignment.gt_index == NEGATIVE).all()
        return
    assert_index(case, assignment)
    key = "expected_iou" if "expected_iou" in case else "expected_max_iou"
    if key in case:
        assert_matched_iou(case, truth, candidates, assignment, key)


def check_dynamic_soft_label(case: Case) -> None:
    # The reference takes logits under whatever name.
    scores = case.tensor("logits" if "logits" in case else "scores").sigmoid()
    truth = objects(case)
    candidates = points(*centers_and_strides(case), Predictions(scores, case.tensor("pred_boxes")))
    assignment = DynamicSoftLabelAssigner(**options(case, "soft_center_radius", "topk", "iou_weight"))(
        truth, candidates
    )
    assert_index(case, assignment)
    if "expected_max_iou" in case:
        assert_matched_iou(case, truth, candidates, assignment, "expected_max_iou")


def check_ota(case: Case) -> None:
    scores, centers = case.tensor("cls_logits").sigmoid(), case.tensor("points")
    distances = case.tensor("pred_ltrb")
    boxes = torch.cat((centers - distances[:, :2], centers + distances[:, 2:]), -1)
    truth, candidates = objects(case), points(centers, case.tensor("strides"), Predictions(scores, boxes))
    names = ("center_radius", "top_candidates", "reg_weight", "focal_alpha", "focal_gamma")
    assigner = OTAAssigner(**options(case, *names, "sinkhorn_eps", "sinkhorn_iter"))
    assignment = assigner(truth, candidates)
    assert_index(case, assignment)

    # The reference keeps the background last.
    cost, iou = assigner.cost(truth, candidates)
    torch.testing.assert_close(cost.roll(-1, 0), case.tensor("expected_cost"), rtol=1e-5, atol=1e-6)
    supply = assigner.supply(iou, truth, candidates)
    torch.testing.assert_close(supply.roll(-1, 0), case.tensor("expected_supply"), rtol=0, atol=0)
    shares = assigner.plan(supply, cost).amax(0)
    torch.testing.assert_close(shares, case.tensor("expected_plan_max"), rtol=1e-3, atol=1e-6)

    labels = torch.full_like(assignment.gt_index, scores.shape[-1])
    positive = assignment.positive
    labels[positive] = truth.labels[assignment.gt_index[positive]]
    same = assignment.gt_index == case.tensor("expected_gt_index")
    assert torch.equal(labels[same], case.tensor("expected_class")[same])
    assert_matched_iou(case, truth, candidates, assignment, "expected_iou")


COSTS = {
    "ClassificationCost": ("classification", {"weight": "cls_weight"}),
    "FocalLossCost": ("classification", {"weight": "cls_weight", "alpha": "focal_alpha", "gamma": "focal_gamma"}),
    "BBoxL1Cost": ("l1", {"weight": "l1_weight", "box_format": "box_format"}),
    "IoUCost": ("iou", {"weight": "iou_weight", "iou_mode": "iou_mode"}),
}


def check_hungarian(case: Case) -> None:
    chosen = {"cls_weight": 0.0, "l1_weight": 0.0, "iou_weight": 0.0}
    # The reference's default format is xyxy.
    chosen |= {"image_size": case.params["img_shape_hw"], "box_format": "xyxy"}
    for cost in case.params["match_costs"]:
        chosen |= {ours: cost[theirs] for theirs, ours in COSTS[cost["type"]][1].items() if theirs in cost}
        if cost["type"] == "FocalLossCost":
            chosen["cls_cost"] = "focal"
    logits = case.tensor("logits")
    scores = logits.sigmoid() if "cls_cost" in chosen else logits.softmax(-1)[:, :-1]
    boxes = case.tensor("pred_boxes")
    truth = objects(case)
    candidates = Candidates(boxes, torch.ones(len(boxes), dtype=torch.bool), predictions=Predictions(scores, boxes))
    assigner = HungarianAssigner(**chosen)
    assert_index(case, assigner(truth, candidates))
    terms = assigner.costs(truth, candidates)
    costs = torch.stack([terms[COSTS[cost["type"]][0]].mT for cost in case.params["match_costs"]])
    torch.testing.assert_close(costs, case.tensor("expected_costs"), **VALUES)
    torch.testing.assert_close(costs.sum(0), case.tensor("expected_total_cost"), **VALUES)


def check_task_aligned_mmdet(case: Case) -> None:
    predictions = Predictions(case.tensor("scores"), case.tensor("pred_boxes"))
    priors = case.tensor("priors")
    candidates = Candidates(priors, torch.ones(len(priors), dtype=torch.bool), predictions=predictions)
    truth = objects(case)
    assigner = TaskAlignedAssigner(**options(case, "topk", "alpha", "beta"))
    assignment = assigner(truth, candidates)
    assert_index(case, assignment)
    if "expected_max_iou" in case:
        assert_matched_iou(case, truth, candidates, assignment, "expected_max_iou")
    if "expected_assign_metrics" in case:
        expected = case.tensor("expected_assign_metrics")
        ours = torch.zeros_like(expected)
        positive = assignment.positive
        alignment, _ = assigner.alignment(truth, candidates)
        ours[positive] = alignment[assignment.gt_index[positive], positive.nonzero().flatten()]
        same = assignment.gt_index == case.tensor("expected_gt_index")
        torch.testing.assert_close(ours[same], expected[same], **VALUES)


def check_task_aligned_ultralytics(case: Case) -> None:
    flavour = "ultralytics" if "strides_of_levels" in case.params else "ultralytics_8_3"
    centers = case.tensor("points")
    strides = case.tensor("strides") if "strides" in case else _strides(case, len(centers))
    scores = case.tensor("scores")
    truth, candidates = objects(case), points(centers, strides, Predictions(scores, case.tensor("pred_boxes")))
    assigner = TaskAlignedAssigner(flavour=flavour, **options(case, "topk", "alpha", "beta", "eps", "topk2"))
    assignment = assigner(truth, candidates)
    assert_index(case, assignment)
    target = torch.zeros_like(scores)
    positive = assignment.positive
    labels = truth.labels[assignment.gt_index[positive]]
    target[positive, labels] = assignment.quality[positive]
    same = assignment.gt_index == case.tensor("expected_gt_index")
    torch.testing.assert_close(target[same], case.tensor("expected_target_scores")[same], **VALUES)


def _strides(case: Case, count: int) -> Tensor:
    """Strides for a handful of points whose levels the case does not tell apart: every level occurs."""
    levels = np.resize(np.asarray(case.params["strides_of_levels"], dtype=np.float32), count)
    return torch.from_numpy(levels)


def check_edge_task_aligned(case: Case) -> None:
    (check_task_aligned_ultralytics if case.params["reference"] == "ultralytics" else check_task_aligned_mmdet)(case)


def check_paa_reassign(case: Case) -> None:
    priors = case.tensor("priors")
    index, count = case.tensor("pos_index"), len(priors)
    gt_index = torch.full((count,), NEGATIVE)
    gt_index[index] = case.tensor("pos_gt_index")
    loss = torch.zeros(count)
    loss[index] = case.tensor("pos_losses")
    sizes = case.tensor("num_level_priors")
    candidates = Candidates(
        priors,
        torch.ones(count, dtype=torch.bool),
        level=torch.repeat_interleave(torch.arange(len(sizes)), sizes),
        num_levels=len(sizes),
    )
    truth = objects(case)
    assigner = PAAAssigner(**options(case, "topk", "covariance_type"))
    proposed = Assignment(gt_index, torch.zeros(count))
    refined = assigner.refine(truth, candidates, proposed, CandidateLosses(loss, torch.zeros(count)))
    labels = case.tensor("labels_in")
    labels[gt_index >= 0] = int(case.params["background_label"])
    labels[refined.positive] = truth.labels[refined.gt_index[refined.positive]]
    robust = case.tensor("robust")
    assert torch.equal(labels[robust], case.tensor("expected_labels")[robust]), f"{case.item}/{case.name}"
    assert (refined.gt_index[refined.positive] == gt_index[refined.positive]).all()
    if robust.all():
        assert refined.positive.sum() == case.tensor("expected_num_pos")


CHECKS: dict[str, Callable[[Case], None]] = {
    "simota_mmdet": check_simota,
    "simota_yolox": check_simota,
    "edge_cases/SimOTAAssigner": check_simota,
    "mmdet_unit_tests/SimOTAAssigner": check_simota,
    "dynamic_soft_label": check_dynamic_soft_label,
    "mmdet_unit_tests/DynamicSoftLabelAssigner": check_dynamic_soft_label,
    "hungarian": check_hungarian,
    "ota": check_ota,
    "paa_reassign": check_paa_reassign,
    "task_aligned_mmdet": check_task_aligned_mmdet,
    "task_aligned_ultralytics": check_task_aligned_ultralytics,
    "task_aligned_ultralytics_8_3": check_task_aligned_ultralytics,
    "edge_cases/TaskAlignedAssigner": check_edge_task_aligned,
    "mmdet_unit_tests/TaskAlignedAssigner": check_task_aligned_mmdet,
}
