"""Golden checks of the losses: value and gradient.

A reference returns its values weighted, reduced and scaled; ours are unreduced, so that arithmetic stands here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.losses.classification import (
    APLoss,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    EQLv2Loss,
    FocalLoss,
    GHMCLoss,
    QualityFocalLoss,
    SeesawLoss,
    TopKCrossEntropyLoss,
    VarifocalLoss,
)
from harness.losses.regression import (
    BalancedL1Loss,
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    DistributionFocalLoss,
    EIoULoss,
    GHMRLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    SIoULoss,
    SmoothL1Loss,
)
from tests.golden.case import GRADIENT, LOSS, Case

MMDET_EPS = torch.finfo(torch.float32).eps  # added to every averaging factor there


def reduced(case: Case, values: Tensor, valid: Tensor | None = None) -> Tensor:
    """The reference's weighting, reduction and scale of unreduced values.

    ``valid`` (bool, of the values' shape): the elements that a mean without averaging factor divides by.
    """
    if case.params.get("weight_given"):
        weight = case.tensor("weight")
        if weight.dim() < values.dim():  # one a row, of values that have columns
            weight = weight.unsqueeze(-1)
        elif weight.dim() > values.dim():  # one a coordinate, of values that are one a box: their mean there
            weight = weight.mean(-1)
        values = values * weight
    factor = case.params.get("avg_factor")
    match case.params["reduction"]:
        case "sum":
            values = values.sum()
        case "mean" if factor is not None:
            values = values.sum() / (factor + MMDET_EPS)
        case "mean":
            values = values.mean() if valid is None else values.sum() / (valid.sum() + MMDET_EPS)
    return values * case.params["loss_weight"]


def assert_loss(case: Case, pred: Tensor, loss: Tensor, prefix: str = "") -> None:
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    case.assert_close(loss, f"{prefix}expected_loss", **LOSS)
    case.assert_close(gradient, f"{prefix}expected_grad", **GRADIENT)


def leaf(case: Case, key: str = "pred") -> Tensor:
    return case.tensor(key).requires_grad_()


def check_cross_entropy(case: Case) -> None:
    params, pred, target = case.params, leaf(case), case.tensor("target")
    ignore = params.get("ignore_index", -100)
    loss = CrossEntropyLoss(params.get("class_weight"), ignore).elementwise(pred, target)
    assert_loss(case, pred, reduced(case, loss, (target != ignore) if params.get("avg_non_ignore") else None))


def check_binary_cross_entropy(case: Case) -> None:
    params, pred, target = case.params, leaf(case), case.tensor("target")
    ignore, class_weight = params.get("ignore_index"), params.get("class_weight")
    valid = (target >= 0) & (target != (-100 if ignore is None else ignore))
    if params.get("soft_target"):
        loss = torch.stack(
            [
                _one_column(BinaryCrossEntropyLoss(True, class_weight and class_weight[c : c + 1]), pred[:, c], column)
                for c, column in enumerate(target.unbind(-1))
            ],
            -1,
        )
        loss = loss * valid
    else:
        loss = BinaryCrossEntropyLoss(False, class_weight, ignore).elementwise(pred, target)
        valid = valid.unsqueeze(-1).expand_as(loss)
    assert_loss(case, pred, reduced(case, loss, valid if params.get("avg_non_ignore") else None))


def _one_column(loss: BinaryCrossEntropyLoss, logits: Tensor, quality: Tensor) -> Tensor:
    """A matrix of soft targets, one column of it: every element is a slot of one column that is on, so much."""
    on = torch.zeros(logits.shape, dtype=torch.int64)
    return loss.elementwise(logits.unsqueeze(-1), on, quality=quality).squeeze(-1)


def check_sigmoid_focal(case: Case) -> None:
    pred = leaf(case)
    loss = FocalLoss(case.params["alpha"], case.params["gamma"]).elementwise(pred, case.tensor("target"))
    assert_loss(case, pred, reduced(case, loss))


def check_tv_sigmoid_focal(case: Case) -> None:
    pred, target = leaf(case), case.tensor("target")
    assert ((target == 0) | (target == 1)).all()
    # A matrix of zeros and ones: every element is a slot of one column, which is on or not.
    loss = FocalLoss(case.params["alpha"], case.params["gamma"])
    values = loss.elementwise(pred.flatten().unsqueeze(-1), 1 - target.flatten().long()).view(target.shape)
    assert_loss(case, pred, reduced(case, values))


def check_quality_focal(case: Case) -> None:
    pred = leaf(case)
    loss = QualityFocalLoss(case.params["beta"])
    values = loss.elementwise(pred, case.tensor("target_label"), quality=case.tensor("target_score"))
    assert_loss(case, pred, reduced(case, values.sum(-1)))


def check_varifocal(case: Case) -> None:
    params, pred, target = case.params, leaf(case), case.tensor("target")
    loss = VarifocalLoss(params["alpha"], params["gamma"], params["iou_weighted"])
    slots = torch.zeros(target.numel(), dtype=torch.int64)
    values = loss.elementwise(pred.flatten().unsqueeze(-1), slots, quality=target.flatten()).view(target.shape)
    assert_loss(case, pred, reduced(case, values))


def check_ghm_c(case: Case) -> None:
    params, pred, valid = case.params, leaf(case), case.tensor("label_weight") > 0
    values = GHMCLoss(params["bins"], params["momentum"]).elementwise(pred, case.tensor("target"), weight=valid)
    if params["reduction"] == "mean":
        values = values.sum() / (valid.sum() * pred.shape[-1]).clamp(min=1)
    assert_loss(case, pred, values * params["loss_weight"])


def check_ghm_r(case: Case) -> None:
    params, pred, target, weight = case.params, leaf(case), case.tensor("target"), case.tensor("label_weight")
    loss = GHMRLoss(params["mu"], params["bins"], params["momentum"])
    # One weight a delta: every delta is a slot.
    columns = (pred.flatten().unsqueeze(-1), target.flatten().unsqueeze(-1))
    values = loss.elementwise(*columns, weight=weight.flatten()).view(target.shape)
    if params["reduction"] == "mean":
        values = values.sum() / weight.sum().clamp(min=1)
    assert_loss(case, pred, values * params["loss_weight"])


def check_eqlv2(case: Case) -> None:
    params = case.params
    loss = EQLv2Loss(params["mu"], params["gamma"], params["alpha"], columns=case.arrays["step0_pred"].shape[-1])
    for step in range(params["steps"]):
        prefix = f"step{step}_"
        pred, target = leaf(case, f"{prefix}pred"), case.tensor(f"{prefix}target")
        assert_loss(case, pred, loss.elementwise(pred, target).sum() / len(target), prefix)
        for name in ("pos_grad", "neg_grad", "pos_neg"):
            case.assert_close(getattr(loss, name), f"{prefix}expected_{name}", **GRADIENT)
    case.assert_close(loss.activation_of(case.tensor("step0_pred")), "activation_expected", **LOSS)


def check_seesaw(case: Case) -> None:
    params = case.params
    loss = SeesawLoss(params["p"], params["q"], params["eps"], columns=case.arrays["step0_pred"].shape[-1])
    for step in range(params["steps"]):
        prefix = f"step{step}_"
        pred, target = leaf(case, f"{prefix}pred"), case.tensor(f"{prefix}target")
        classes, objectness = loss.terms(pred, target)
        factor = case.tensor(f"{prefix}avg_factor")
        if f"{prefix}weight" in case:
            weight = case.tensor(f"{prefix}weight")
            classes, objectness = classes * weight, objectness * weight
        positives = (target < pred.shape[-1] - 2).sum().clamp(min=1)
        classes = classes.sum() / (positives if factor < 0 else factor + MMDET_EPS)
        objectness = objectness.sum() / (len(target) if factor < 0 else factor + MMDET_EPS)
        case.assert_close(classes, f"{prefix}expected_loss_classes", **LOSS)
        case.assert_close(objectness, f"{prefix}expected_loss_objectness", **LOSS)
        (gradient,) = torch.autograd.grad(classes + objectness, pred)
        case.assert_close(gradient, f"{prefix}expected_grad", **GRADIENT)
        case.assert_close(loss.cum_samples, f"{prefix}expected_cum_samples", rtol=0, atol=0)
    case.assert_close(loss.activation_of(case.tensor("step0_pred")), "activation_expected", **LOSS)


def check_ap_loss(case: Case) -> None:
    pred, target = leaf(case), case.tensor("target")
    loss = APLoss(case.params["delta"])
    # Labels 1 and 0 are "the only column is on" and "no column is on".
    exists = target != case.params["ignore_label"]
    values = loss(pred.unsqueeze(-1), (target != 1).long(), weight=exists.to(pred.dtype))
    assert_loss(case, pred, values.sum() / (target == 1).sum().clamp(min=1))


def check_topk_cross_entropy(case: Case) -> None:
    params, pred, target = case.params, leaf(case), case.tensor("target")
    loss = TopKCrossEntropyLoss(params["k_percent"] / 100, params["class_weight"])
    values = loss.elementwise(pred, target)
    assert (values > 0).sum() <= params["num_kept"]
    assert_loss(case, pred, values.mean())


def check_distribution_focal(case: Case) -> None:
    pred = leaf(case)
    assert pred.shape[-1] == case.params["reg_max"] + 1
    assert_loss(case, pred, reduced(case, DistributionFocalLoss().elementwise(pred, case.tensor("target"))))


def regression(make: Callable[[dict], torch.nn.Module]) -> Callable[[Case], None]:
    """A check of a regression loss that ``make`` builds of the parameters."""

    def check(case: Case) -> None:
        pred, target = leaf(case), case.tensor("target")
        loss = make(case.params)
        values = loss.elementwise(pred, target)
        if case.params.get("reference_nonfinite"):
            # Fault of a reference: CIoU's trade-off is 0 / 0 for identical boxes. Loss and gradient are 0 there.
            same = (pred == target).all(-1)
            assert same.any(), "not finite for another reason than identical boxes"
            (gradient,) = torch.autograd.grad(values[same].sum(), pred, retain_graph=True)
            torch.testing.assert_close(values[same], torch.zeros_like(values[same]), **LOSS)
            torch.testing.assert_close(gradient, torch.zeros_like(gradient), **GRADIENT)
        assert_loss(case, pred, reduced(case, values))

    return check


def check_yolox_iou_loss(case: Case) -> None:
    pred = leaf(case)
    loss = {"iou": IoULoss("square", eps=1e-16), "giou": GIoULoss(eps=1e-16)}[case.params["loss_type"]]
    assert_loss(case, pred, reduced(case, loss.elementwise(_corners(pred), _corners(case.tensor("target")))))


def _corners(boxes: Tensor) -> Tensor:
    """xyxy of cxcywh."""
    return torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), -1)


CHECKS: dict[str, Callable[[Case], None]] = {
    "cross_entropy": check_cross_entropy,
    "binary_cross_entropy": check_binary_cross_entropy,
    "sigmoid_focal": check_sigmoid_focal,
    "tv_sigmoid_focal": check_tv_sigmoid_focal,
    "quality_focal": check_quality_focal,
    "varifocal": check_varifocal,
    "ghm_c": check_ghm_c,
    "ghm_r": check_ghm_r,
    "eqlv2": check_eqlv2,
    "seesaw": check_seesaw,
    "ap_loss": check_ap_loss,
    "topk_cross_entropy": check_topk_cross_entropy,
    "distribution_focal": check_distribution_focal,
    "l1": regression(lambda p: L1Loss()),
    "smooth_l1": regression(lambda p: SmoothL1Loss(p["beta"])),
    "balanced_l1": regression(lambda p: BalancedL1Loss(p["alpha"], p["gamma"], p["beta"])),
    "iou_loss": regression(lambda p: IoULoss(p["mode"], p["eps"])),
    "giou_loss": regression(lambda p: GIoULoss(p["eps"])),
    "diou_loss": regression(lambda p: DIoULoss(p["eps"])),
    "ciou_loss": regression(lambda p: CIoULoss(p["eps"])),
    "eiou_loss": regression(lambda p: EIoULoss(p["smooth_point"], p["eps"])),
    "siou_loss": regression(lambda p: SIoULoss(neg_gamma=p.get("neg_gamma", False), eps=p["eps"])),
    "bounded_iou_loss": regression(lambda p: BoundedIoULoss(p["beta"], p["eps"])),
    "tv_giou_loss": regression(lambda p: GIoULoss(p["eps"])),
    "tv_diou_loss": regression(lambda p: DIoULoss(p["eps"])),
    "tv_ciou_loss": regression(lambda p: CIoULoss(p["eps"], gate=None)),
    "yolox_iou_loss": check_yolox_iou_loss,
}
