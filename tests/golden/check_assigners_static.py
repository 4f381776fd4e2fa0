"""Golden values of the assigners that look at geometry (and YOLOF's, which looks at predicted boxes)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.assigners.atss import ATSSAssigner
from harness.assigners.center_region import CenterRegionAssigner
from harness.assigners.fcos import FCOSAssigner
from harness.assigners.grid import GridAssigner
from harness.assigners.max_iou import MaxIoUAssigner
from harness.assigners.ssd import SSDMatcher
from harness.assigners.torchvision import TorchvisionMatcher
from harness.assigners.uniform import UniformAssigner, UniformMatches
from harness.assigners.yolo_ratio import YOLORatioAssigner
from harness.core.boxes import aligned_iou
from harness.core.structures import Assigner, Assignment, Candidates, GroundTruth, Predictions
from tests.golden.case import BOXES, LOSS, Case


def given(case: Case, *names: str) -> dict[str, Any]:
    """Those of the reference's parameters that the case states: the others have the reference's defaults in ours."""
    return {name: case.params[name] for name in names if name in case.params}


def truth_of(case: Case) -> GroundTruth:
    """The objects, then the reference's ignore boxes as crowd."""
    boxes, labels = case.tensor("gt_boxes"), torch.zeros(0, dtype=torch.int64)
    ignored = case.tensor("ignore_boxes") if "ignore_boxes" in case else boxes[:0]
    labels = case.tensor("gt_labels") if "gt_labels" in case else torch.zeros(len(boxes), dtype=torch.int64)
    total = len(boxes) + len(ignored)
    return GroundTruth(
        boxes=torch.cat((boxes, ignored)),
        labels=torch.cat((labels, labels.new_zeros(len(ignored)))),
        valid=torch.ones(total, dtype=torch.bool),
        crowd=torch.arange(total) >= len(boxes),
    )


def candidates_of(boxes: Tensor, per_level: Tensor | None = None, stride: Tensor | None = None) -> Candidates:
    sizes = torch.tensor([len(boxes)]) if per_level is None else per_level
    return Candidates(
        boxes=boxes,
        valid=torch.ones(len(boxes), dtype=torch.bool),
        level=torch.arange(len(sizes)).repeat_interleave(sizes),
        stride=stride,
        num_levels=len(sizes),
    )


def squares(points: Tensor, strides: Tensor) -> Tensor:
    half = strides.unsqueeze(-1) / 2
    return torch.cat((points - half, points + half), -1)


def assert_assigned(case: Case, found: Assignment, truth: GroundTruth, candidates: Candidates) -> None:
    """Equal objects where robust, their labels, and the IoU that the reference reports of a match."""
    expected = case.tensor("expected_gt_index")
    robust = case.tensor("robust") if "robust" in case else torch.ones_like(expected, dtype=torch.bool)
    where = f"{case.item}/{case.name}"
    assert found.gt_index.dtype == torch.int64
    assert torch.equal(found.gt_index[robust], expected[robust]), f"{where}: {found.gt_index} != {expected}"
    positive = robust & found.positive
    matched = found.gt_index[positive]
    if "expected_labels" in case:
        assert torch.equal(truth.labels[matched], case.tensor("expected_labels")[positive]), where
        assert (case.tensor("expected_labels")[robust & ~found.positive] == -1).all(), where
    if "expected_max_iou" in case:
        assert_iou(case, found, robust, aligned_iou(truth.boxes[matched], candidates.boxes[positive]))
    assert torch.isfinite(found.max_iou).all(), where
    assert ((found.max_iou >= 0) & (found.max_iou <= 1)).all(), where


def assert_iou(case: Case, found: Assignment, robust: Tensor, matched: Tensor) -> None:
    """The references mean different things by it; ours is the IoU with the best object in all of them."""
    expected = case.tensor("expected_max_iou")
    if case.item == "atss" or case.params.get("assigner") == "ATSSAssigner":  # that of the match, else -1e8
        positive = robust & found.positive
        torch.testing.assert_close(matched, expected[positive], **LOSS)
        assert (expected[robust & ~found.positive] <= 0).all()
    else:  # that with the best object; -1 where a region is ignored or, in a grid, a cell is not responsible
        known = expected >= 0
        torch.testing.assert_close(found.max_iou[known], expected[known], **LOSS)
        assert (expected[~known] == -1).all()


def check_max_iou(case: Case) -> None:
    names = ("pos_iou_thr", "neg_iou_thr", "min_pos_iou", "gt_max_assign_all", "match_low_quality")
    assigner = MaxIoUAssigner(**given(case, *names, "ignore_iof_thr", "ignore_wrt_candidates"))
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"))
    found = assigner(truth, candidates)
    if isinstance(case.params["neg_iou_thr"], int):
        # The reference's fault: it reads neither a float nor a pair and finds no negative at all.
        assert (case.tensor("expected_gt_index") < 0).all()
        as_float = MaxIoUAssigner(**{**given(case, *names), "neg_iou_thr": float(case.params["neg_iou_thr"])})
        assert torch.equal(found.gt_index, as_float(truth, candidates).gt_index)
        assert found.negative.any()
        return
    assert_assigned(case, found, truth, candidates)


def check_torchvision(case: Case) -> None:
    kind = case.params.get("cls") or case.params["assigner"]
    assigner: Assigner
    if kind == "SSDMatcher":
        assigner = SSDMatcher(**given(case, "threshold"))
    else:
        assigner = TorchvisionMatcher(**given(case, "high_threshold", "low_threshold", "allow_low_quality_matches"))
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"))
    found = assigner(truth, candidates)
    assert_assigned(case, found, truth, candidates)
    torch.testing.assert_close(found.max_iou, case.tensor("iou").amax(0), **LOSS)


def check_atss(case: Case) -> None:
    assigner = ATSSAssigner(**given(case, "topk", "ignore_iof_thr"))
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"), case.tensor("num_level_priors"))
    found = assigner(truth, candidates)
    if case.params["topk"] == 1 and candidates.num_levels == 1:
        # The reference's fault: the deviation of one value is NaN there, so that nothing is ever positive. It is 0:
        # the nearest candidate reaches its own IoU and is positive if its centre is inside.
        assert (case.tensor("expected_gt_index") == -1).all()
        assert torch.isfinite(found.max_iou).all()
        for number, box in enumerate(truth.boxes):
            middle = (box[:2] + box[2:]) / 2
            distance = (candidates.centers - middle).square().sum(-1)
            center = candidates.centers[distance.argmin()]
            inside = bool((torch.cat((center - box[:2], box[2:] - center)) > 0.01).all())
            assert (found.gt_index[distance.argmin()] == number) == inside
        return
    assert_assigned(case, found, truth, candidates)


def check_center_region(case: Case) -> None:
    names = ("pos_scale", "neg_scale", "min_pos_iof", "ignore_gt_scale", "foreground_dominate")
    assigner = CenterRegionAssigner(**given(case, *names))
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"))
    assert_assigned(case, assigner(truth, candidates), truth, candidates)
    if "expected_shadowed" not in case:
        return
    robust = case.tensor("robust") if "robust" in case else torch.ones(len(candidates.boxes), dtype=torch.bool)
    objects, priors = assigner.shadows(truth, candidates).nonzero(as_tuple=True)
    rows = torch.stack((priors, truth.labels[objects]), -1)
    assert rows_of(rows[robust[priors]]) == rows_of(case.tensor("expected_shadowed"), robust)


def rows_of(rows: Tensor, keep: Tensor | None = None) -> list[tuple[int, ...]]:
    """The rows as a sorted multiset, only those whose first number ``keep`` allows."""
    return sorted(tuple(row) for row in rows.tolist() if keep is None or keep[row[0]])


def check_fcos_torchvision(case: Case) -> None:
    assigner = FCOSAssigner(**given(case, "center_sampling_radius"), flavour="torchvision")
    anchors = case.tensor("anchors")
    candidates = candidates_of(anchors, case.tensor("num_level_anchors"), stride=anchors[:, 2] - anchors[:, 0])
    truth = truth_of(case)
    assert_assigned(case, assigner(truth, candidates), truth, candidates)


def check_fcos_mmdet(case: Case) -> None:
    assigner = FCOSAssigner(
        center_sampling_radius=case.params["center_sampling_radius"] if case.params["center_sampling"] else None,
        regress_ranges=case.params["regress_ranges"],
        flavour="mmdet",
    )
    points, strides = case.tensor("points"), case.tensor("strides")
    truth = truth_of(case)
    candidates = candidates_of(squares(points, strides), case.tensor("num_level_points"), strides)
    found = assigner(truth, candidates)
    assert_assigned(case, found, truth, candidates)
    positive = found.positive & case.tensor("robust")
    boxes = truth.boxes[found.gt_index[positive]]
    sides = torch.cat((points[positive] - boxes[:, :2], boxes[:, 2:] - points[positive]), -1)
    torch.testing.assert_close(sides, case.tensor("expected_ltrb_target")[positive], **BOXES)


def check_uniform(case: Case) -> None:
    assigner = UniformAssigner(**given(case, "pos_ignore_thr", "neg_ignore_thr", "match_times"))
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"))
    predicted = case.tensor("pred_boxes")
    candidates = candidates.predicted(Predictions(torch.zeros(len(predicted), 1), predicted))
    assert_assigned(case, assigner(truth, candidates), truth, candidates)
    if "expected_pos_idx" not in case:
        return
    objects = torch.arange(truth.boxes.shape[0]).repeat(2 * assigner.match_times)
    torch.testing.assert_close(truth.boxes[objects], case.tensor("expected_target_boxes"), **BOXES)
    matches = assigner.matches(truth, candidates)
    theirs = (case.tensor("expected_pos_predicted_boxes").unsqueeze(1) == predicted).all(-1).long().argmax(-1)
    assert_same_matches(case, truth, candidates, matches, theirs.unflatten(0, matches.index.shape))


def assert_same_matches(
    case: Case, truth: GroundTruth, candidates: Candidates, ours: UniformMatches, theirs: Tensor
) -> None:
    """Rank by rank equally near, and the same candidates wherever they are not tied with one that was left out."""
    assert candidates.predictions is not None
    kept = case.tensor("expected_pos_idx").unflatten(0, theirs.shape)
    for kind, boxes in enumerate((candidates.predictions.boxes, candidates.boxes)):
        for number, box in enumerate(truth.boxes):
            distance = (center_size(boxes.double()) - center_size(box.double())).abs().sum(-1)
            mine, reference = ours.index[:, kind, number], theirs[:, kind, number]
            torch.testing.assert_close(distance[mine], distance[reference], rtol=1e-6, atol=1e-3)
            bound = distance[reference].max() - 1e-3
            sure = [
                {(int(i), bool(k)) for i, k in zip(index, keep[:, kind, number], strict=True) if distance[i] < bound}
                for index, keep in ((mine, ours.kept), (reference, kept))
            ]
            assert sure[0] == sure[1], f"{case.item}/{case.name}: object {number} by {('prediction', 'prior')[kind]}"


def center_size(boxes: Tensor) -> Tensor:
    return torch.cat(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), -1)


def check_grid(case: Case) -> None:
    assigner = GridAssigner(**given(case, "pos_iou_thr", "neg_iou_thr", "min_pos_iou", "gt_max_assign_all"))
    responsible = case.tensor("responsible")
    truth, candidates = truth_of(case), candidates_of(case.tensor("priors"))
    if "strides" in case.params:
        cells = [height * width * 3 for height, width in case.params["feature_hw"]]
        stride = torch.tensor(case.params["strides"]).repeat_interleave(torch.tensor(cells)).float()
        candidates = candidates_of(case.tensor("priors"), torch.tensor(cells), stride)
        assert torch.equal(assigner.responsible(truth, candidates), responsible)
        assert torch.equal(
            assigner(truth, candidates).gt_index, assigner.assign(truth, candidates, responsible).gt_index
        )
    assert_assigned(case, assigner.assign(truth, candidates, responsible), truth, candidates)


def check_build_targets(case: Case) -> None:
    """The whole relation of one batch, row by row, in the reference's grid units."""
    strides, shapes = case.params["strides"], case.params["feature_hw"]
    anchors = case.tensor("anchors_px").double()
    assigner = YOLORatioAssigner(anchor_t=case.params["anchor_t"])
    truth = yolo_truth(case)
    candidates, place = yolo_candidates(anchors, strides, shapes, case.params["batch"])
    image, objects, index = assigner.matches(truth, candidates).nonzero(as_tuple=True)
    times = assigner.matches(truth, candidates)[image, objects, index]
    image, objects, index = (values.repeat_interleave(times) for values in (image, objects, index))
    center = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    size = truth.boxes[..., 2:] - truth.boxes[..., :2]
    for level, stride in enumerate(strides):
        here = place[index, 0] == level
        b, g, cell = image[here], objects[here], place[index[here]]
        offset = center[b, g] / stride - cell[:, [3, 2]]
        found = torch.cat(
            (
                torch.stack((b, cell[:, 1], cell[:, 2], cell[:, 3], truth.labels[b, g]), -1).double(),
                offset,
                size[b, g] / stride,
                anchors[level, cell[:, 1]] / stride,
            ),
            -1,
        )
        expected = torch.cat(
            (
                case.tensor(f"expected_l{level}_index").double(),
                case.tensor(f"expected_l{level}_class").double().unsqueeze(-1),
                case.tensor(f"expected_l{level}_tbox").double(),
                case.tensor(f"expected_l{level}_anchor").double(),
            ),
            -1,
        )
        torch.testing.assert_close(in_order(found), in_order(expected), rtol=1e-5, atol=1e-4)
    assert_one_of_the_relation(assigner, truth, candidates)


def assert_one_of_the_relation(assigner: YOLORatioAssigner, truth: GroundTruth, candidates: Candidates) -> None:
    """The assignment keeps one matched object of every matched candidate, and nothing else."""
    times, found = assigner.matches(truth, candidates), assigner(truth, candidates)
    assert torch.equal(found.positive, (times > 0).any(-2))
    if times.shape[-2]:
        kept = times.gather(-2, found.gt_index.clamp(min=0).unsqueeze(-2)).squeeze(-2)
        assert (kept[found.positive] > 0).all()


def in_order(rows: Tensor) -> Tensor:
    """The rows as a multiset in a fixed order; rounded for the order only."""
    order = sorted(range(len(rows)), key=lambda row: [round(value, 3) for value in rows[row].tolist()])
    return rows[order]


def yolo_truth(case: Case) -> GroundTruth:
    """The rows (image, class, cx, cy, w, h) as padded boxes; in float64, where px and back is exact."""
    rows, (height, width) = case.tensor("targets"), case.params["img_hw"]
    scale = torch.tensor([width, height, width, height], dtype=torch.float32)
    center_size = (rows[:, 2:] * scale).double()
    boxes = torch.cat(
        (center_size[:, :2] - center_size[:, 2:] / 2, center_size[:, :2] + center_size[:, 2:] / 2), -1
    ).reshape(-1, 4)
    images = [rows[:, 0] == number for number in range(case.params["batch"])]
    return GroundTruth.pad([boxes[mine] for mine in images], [rows[mine, 1].long() for mine in images])


def yolo_candidates(
    anchors: Tensor, strides: list[int], shapes: list[list[int]], batch: int
) -> tuple[Candidates, Tensor]:
    """All anchors around their cells' centres, and (level, anchor, row, column) of each."""
    boxes, places, stride_of = [], [], []
    for level, (stride, (height, width)) in enumerate(zip(strides, shapes, strict=True)):
        place = torch.cartesian_prod(
            torch.tensor([level]), torch.arange(len(anchors[level])), torch.arange(height), torch.arange(width)
        )
        center = (place[:, [3, 2]] + 0.5) * stride
        half = anchors[level, place[:, 1]] / 2
        boxes.append(torch.cat((center - half, center + half), -1))
        places.append(place)
        stride_of.append(torch.full((len(place),), float(stride), dtype=torch.float64))
    place = torch.cat(places)
    all_boxes = torch.cat(boxes).expand(batch, -1, -1)
    valid = torch.ones(all_boxes.shape[:-1], dtype=torch.bool)
    return Candidates(all_boxes, valid, place[:, 0], torch.cat(stride_of), num_levels=len(strides)), place


CHECKS = {
    "max_iou": check_max_iou,
    "tv_matcher": check_torchvision,
    "atss": check_atss,
    "center_region": check_center_region,
    "fcos_torchvision": check_fcos_torchvision,
    "fcos_mmdet": check_fcos_mmdet,
    "uniform": check_uniform,
    "grid": check_grid,
    "yolov7_build_targets": check_build_targets,
    "edge_cases/MaxIoUAssigner": check_max_iou,
    "edge_cases/Matcher": check_torchvision,
    "edge_cases/SSDMatcher": check_torchvision,
    "edge_cases/ATSSAssigner": check_atss,
    "edge_cases/FCOS.compute_loss": check_fcos_torchvision,
    "mmdet_unit_tests/MaxIoUAssigner": check_max_iou,
    "mmdet_unit_tests/ATSSAssigner": check_atss,
    "mmdet_unit_tests/UniformAssigner": check_uniform,
    "mmdet_unit_tests/GridAssigner": check_grid,
    "mmdet_unit_tests/CenterRegionAssigner": check_center_region,
}
