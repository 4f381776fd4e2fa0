"""Golden values of the second set's assigners."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.assigners.atss import ATSSAssigner
from harness.assigners.building_blocks.gaussian_boxes import SIMILARITIES
from harness.assigners.point import PointAssigner
from harness.assigners.rfla import RFLAAssigner
from harness.assigners.topk_hungarian import TopkHungarianAssigner
from harness.assigners.yolov7_ota import YOLOv7OTAAssigner
from harness.core.boxes import centers, scaled
from harness.core.structures import Candidates, GroundTruth, Predictions
from tests.golden.case import Case
from tests.golden.check_assigners_static import (
    assert_assigned,
    candidates_of,
    given,
    squares,
    truth_of,
    yolo_candidates,
)
from tests.golden2.tolerances import BOX_LOSS, LOSS


def check_rfla_similarity(case: Case) -> None:
    objects, priors = case.tensor("gt_boxes"), case.tensor("priors")
    for name, similarity in SIMILARITIES.items():
        case.assert_close(similarity(objects, priors), f"expected_{name}", **BOX_LOSS)
    apart = (centers(objects).unsqueeze(-2) - centers(priors)).square().sum(-1) + case.params["eps"]
    case.assert_close(apart, "expected_center_distance2", **BOX_LOSS)


def check_rfla(case: Case) -> None:
    options = given(case, "ratio", "assign_metric", "inside") | {"ignore_thr": case.params["high_overlap"]}
    assigner = RFLAAssigner(*case.params["topk"], **options)
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"), case.tensor("num_level_priors"))
    found = assigner(truth, candidates)
    shrunk = scaled(candidates.boxes, case.params["ratio"])
    highest = torch.nn.functional.pad(assigner.similarity(truth.boxes, shrunk), (0, 0, 0, 1)).amax(
        -2
    )  # 0 without objects
    case.assert_close(highest, "expected_max_overlap_second_stage", **BOX_LOSS)
    if case.params["inside"]:
        # The reference's fault: its test reads object 0 for an ignored candidate, which becomes negative outside of
        # it. An ignored candidate stays ignored; only positives have to have their center in their object.
        unrestricted = RFLAAssigner(*case.params["topk"], **{**options, "inside": False})
        ignored = unrestricted(truth, candidates).gt_index == -2
        assert torch.equal(found.gt_index == -2, ignored)
        expected = torch.where(ignored, -2, case.tensor("expected_gt_index")).numpy()
        case = replace(case, arrays={**case.arrays, "expected_gt_index": expected})
    assert_assigned(case, found, truth, candidates)
    assert torch.equal(candidates.boxes, case.tensor("priors")), "the reference changes its input; this must not"


def check_point(case: Case) -> None:
    assigner = PointAssigner(**given(case, "scale", "pos_num"))
    points, strides = case.tensor("points"), case.tensor("strides")
    candidates = candidates_of(squares(points, strides), stride=strides)
    truth = truth_of(case)
    assert_assigned(case, assigner(truth, candidates), truth, candidates)


def check_topk_hungarian(case: Case) -> None:
    weights = case.params["cost_weights"]
    assigner = TopkHungarianAssigner(
        **given(case, "topk", "alpha", "beta"),
        cls_weight=weights["cls"],
        l1_weight=weights["reg"],
        iou_weight=weights["iou"],
        image_size=case.params["img_hw"],
    )
    probabilities, boxes, truth = case.tensor("scores").sigmoid(), case.tensor("pred_boxes"), truth_of(case)
    candidates = candidates_of(boxes)
    found = assigner(truth, candidates.predicted(Predictions(probabilities, boxes)))
    assert_assigned(case, found, truth, candidates)
    if "matched_index" not in case:  # a case without objects
        assert not found.positive.any()
        return
    matched = case.tensor("matched_index")
    if case.tensor("robust").all():
        assert torch.equal(found.positive.nonzero().flatten(), matched)
        _, iou = assigner.alignment(truth, candidates.predicted(Predictions(probabilities, boxes)), found.gt_index)
        case.assert_close(iou[matched], "expected_matched_iou", **LOSS)
    # The published pipeline hands probabilities to a cost that applies a sigmoid once more. Handed what that cost sees,
    # the same objects are matched; the alignment is of the probabilities themselves.
    twice = assigner(truth, candidates.predicted(Predictions(probabilities.sigmoid(), boxes)))
    robust = case.tensor("robust_from_probabilities")
    expected = case.tensor("expected_gt_index_from_probabilities")
    assert torch.equal(twice.gt_index[robust], expected[robust])
    if robust.all():
        predicted = candidates.predicted(Predictions(probabilities, boxes))
        alignment, _ = assigner.alignment(truth, predicted, twice.gt_index)
        case.assert_close(alignment[twice.positive], "expected_matched_alignment_from_probabilities", **LOSS)


def check_atss_per_anchor(case: Case) -> None:
    """The reference adds 1 to widths and heights; half a pixel on every side does so and keeps the centers. Then a
    center is inside the object itself where it is inside the larger box by half a pixel more."""
    assert case.params["iou_pixel_offset"] == 1
    assigner = ATSSAssigner(
        **given(case, "topk", "anchors_per_location"), inside_margin=case.params["inside_margin"] + 0.5
    )
    half = torch.tensor([-0.5, -0.5, 0.5, 0.5])
    truth = truth_of(case)
    truth = replace(truth, boxes=truth.boxes + half)
    candidates = candidates_of(case.tensor("priors") + half, case.tensor("num_level_priors"))
    assert_assigned(case, assigner(truth, candidates), truth, candidates)


def check_yolov7_ota(case: Case) -> None:
    """Every row of the reference's list of candidates, with the object that it is matched to."""
    strides, (height, width) = case.params["strides"], case.params["img_hw"]
    shapes = [[height // stride, width // stride] for stride in strides]
    raw = [case.tensor(f"pred_l{level}") for level in range(len(strides))]
    images = raw[0].shape[0]
    anchors = case.tensor("anchors_px")
    candidates, place = yolo_candidates(anchors.double(), strides, shapes, images)
    candidates = replace(candidates, boxes=candidates.boxes.float(), stride=candidates.stride.float())
    candidates = candidates.predicted(yolo_predictions(raw, anchors, strides, place))
    truth = yolo_truth(case, images)
    assigner = YOLOv7OTAAssigner(anchor_t=case.params["anchor_t"])
    costs = assigner.costs(truth, candidates)
    wanted = assigner.wanted(costs)
    expected = case.tensor("expected_candidates")
    for image in range(images):
        if f"expected_cost_{image}" not in case:
            continue
        own = expected[expected[:, 0] == image]
        index = index_of(own, place)
        objects = truth.valid[image]
        rows = torch.bincount(index, minlength=len(place))
        assert torch.equal(costs.rows[image], rows)
        case.assert_close(costs.cost[image, objects][:, index], f"expected_cost_{image}", **LOSS)
        case.assert_close(costs.iou[image, objects][:, index], f"expected_iou_{image}", rtol=1e-4, atol=1e-5)
        if bool(case.tensor("robust")):
            assert torch.equal(wanted[image, objects], case.tensor(f"expected_dynamic_k_{image}"))
            assert_same_rows(assigner, truth, candidates, image, index, own[:, 5])


def assert_same_rows(
    assigner: YOLOv7OTAAssigner, truth: GroundTruth, candidates: Candidates, image: int, index: Tensor, gt: Tensor
) -> None:
    """The same objects for the rows of each candidate; the assignment keeps one of them.

    The rows of a candidate are equal, and where an object takes some of them only, the reference leaves it to
    :func:`torch.topk` which. Where other objects take rows of that candidate as well, it then depends on this how many
    rows they contest: there only the objects and the number of rows are bounded.
    """
    found = assigner.matches(truth, candidates)[image]
    relation = torch.zeros_like(found)
    matched = gt >= 0
    relation.index_put_((gt[matched], index[matched]), torch.ones_like(gt[matched]), accumulate=True)
    costs = assigner.costs(truth, candidates)
    taken, rows = assigner.taken(costs)[image], costs.rows[image]
    ambiguous = ((taken > 0) & (taken < rows)).any(0) & ((taken > 0).sum(0) > 1)
    assert torch.equal(found[:, ~ambiguous], relation[:, ~ambiguous])
    for each in (found, relation):
        total = each.sum(0)[ambiguous]
        assert (total >= taken.amax(0)[ambiguous]).all()
        assert (total <= torch.minimum(taken.sum(0), rows)[ambiguous]).all()
    cheapest = costs.cost[image].argmin(0) == torch.arange(len(taken)).unsqueeze(1)
    assert ((taken > 0) | cheapest)[relation > 0].all()
    kept = assigner(truth, candidates).gt_index[image]
    assert torch.equal(kept >= 0, found.any(0))
    assert (found.gather(0, kept.clamp(min=0).unsqueeze(0))[0][kept >= 0] > 0).all()


def index_of(rows: Tensor, place: Tensor) -> Tensor:
    """The candidates of rows (image, level, anchor, row, column, object), by ``place`` (level, anchor, row, column)."""
    numbers = {tuple(spot): number for number, spot in enumerate(place.tolist())}
    return torch.tensor([numbers[tuple(row[1:5])] for row in rows.tolist()], dtype=torch.int64)


def yolo_truth(case: Case, images: int) -> GroundTruth:
    return GroundTruth.pad(
        [case.tensor(f"gt_boxes_{image}") for image in range(images)],
        [case.tensor(f"gt_labels_{image}") for image in range(images)],
    )


def yolo_predictions(raw: list[Tensor], anchors: Tensor, strides: list[int], place: Tensor) -> Predictions:
    """YOLOv7's decoding (Wang et al. 2022): centers within 1.5 cells, sides up to four times the anchor's."""
    boxes, scores = [], []
    for level, values in enumerate(raw):
        flat = values.flatten(1, 3).sigmoid()
        cell = place[place[:, 0] == level]
        center = (flat[..., :2] * 2 - 0.5 + cell[:, [3, 2]]) * strides[level]
        half = (flat[..., 2:4] * 2).square() * anchors[level, cell[:, 1]] / 2
        boxes.append(torch.cat((center - half, center + half), -1))
        scores.append((flat[..., 4:5] * flat[..., 5:]).sqrt())
    return Predictions(torch.cat(scores, 1), torch.cat(boxes, 1))


CHECKS = {
    "rfla_similarity": check_rfla_similarity,
    "rfla_assigner": check_rfla,
    "point_assigner": check_point,
    "topk_hungarian": check_topk_hungarian,
    "atss_topk_times_anchors": check_atss_per_anchor,
    "yolov7_ota_targets": check_yolov7_ota,
}
